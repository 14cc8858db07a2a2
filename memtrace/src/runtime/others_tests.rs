//! Tests of the other allocators and runtimes: names, versions, settings.

use object::elf::PF_R;

use super::super::budget::tests::ample;
use super::super::elf::tests::{build, rodata};
use super::*;

fn version_in(kind: Kind, path: &str, constants: &[u8]) -> Option<String> {
    let elf = Elf::parse(build(&[rodata(constants)], PF_R, true), ample()).unwrap();
    version(kind, path, &elf)
}

fn environment(variables: &[&str]) -> Environment {
    Environment::parse(variables.join("\0").as_bytes())
}

fn arguments(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn files_are_known_by_their_names() {
    for (path, expected) in [
        ("/usr/lib/libjemalloc.so.2", Some(Kind::Jemalloc)),
        (
            "/usr/lib/libtcmalloc_minimal.so.4.5.10",
            Some(Kind::Tcmalloc),
        ),
        ("/usr/lib/libtcmalloc.so.4", Some(Kind::Tcmalloc)),
        ("/opt/libmimalloc-secure.so.2.1", Some(Kind::Mimalloc)),
        ("/lib/x86_64-linux-gnu/libc.so.6", Some(Kind::Glibc)),
        ("/lib/x86_64-linux-gnu/libc-2.31.so", Some(Kind::Glibc)),
        ("/lib/ld-musl-x86_64.so.1", Some(Kind::Musl)),
        ("/opt/jdk/lib/server/libjvm.so", Some(Kind::Jvm)),
        ("/usr/bin/node", Some(Kind::Node)),
        ("/usr/lib/libnode.so.108", Some(Kind::Node)),
        (
            "/usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.4/libcoreclr.so",
            Some(Kind::DotNet),
        ),
        ("/usr/bin/python3.11", Some(Kind::Python)),
        ("/usr/bin/python3", Some(Kind::Python)),
        ("/usr/bin/python3.6m", Some(Kind::Python)),
        ("/usr/lib/libpython3.11.so.1.0", Some(Kind::Python)),
        ("/usr/bin/python3.6m-config", None),
        ("/usr/bin/pythonista", None),
        ("/usr/lib/libjemallocator.so", None),
        ("/usr/lib/libjemalloc.txt", None),
        ("/lib/libc_malloc_debug.so.0", None),
        ("/usr/bin/nodemon", None),
        ("", None),
    ] {
        assert_eq!(kind_of(path), expected, "{path}");
    }
}

#[test]
fn versions_stand_where_their_makers_put_them() {
    for (kind, path, constants, expected) in [
        (
            Kind::Glibc,
            "libc.so.6",
            &b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36.\nCopyright\0"[..],
            Some("2.36"),
        ),
        (Kind::Glibc, "libc.so.6", b"\0some release version 2.36.\0", None),
        (Kind::Tcmalloc, "libtcmalloc.so.4", b"\0gperftools 2.10\0", Some("2.10")),
        (Kind::Mimalloc, "libmimalloc.so.2.0", b"", Some("2.0")),
        (Kind::Musl, "ld-musl-x86_64.so.1", b"\0musl libc (x86_64)\nVersion\x001.0\x001.2.3\0", Some("1.2.3")),
        (
            Kind::Jvm,
            "libjvm.so",
            b"\0OpenJDK 64-Bit Server VM (17.0.15+6-Debian-1deb12u1) for linux-amd64 JRE (17.0.15)\0",
            Some("17.0.15+6-Debian-1deb12u1"),
        ),
        (Kind::Jvm, "libjvm.so", b"\0a VM (broken\0", None),
        (Kind::Node, "node", b"\0node.js/v\0https://x/node.js/v20.20.2/x\0", Some("20.20.2")),
        (Kind::DotNet, "/x/Microsoft.NETCore.App/8.0.4/libcoreclr.so", b"", Some("8.0.4")),
        (Kind::Python, "/usr/bin/python3.9", b"\x003.9.2\0", Some("3.9.2")),
        (Kind::Python, "/usr/bin/python3.9", b"\x003.9.0rc1+\0", Some("3.9.0rc1+")),
        (Kind::Python, "/usr/bin/python3.9", b"\x003.9.2 is\0", Some("3.9")),
        (Kind::Python, "/usr/bin/python3", b"\x003.9.2\0", Some("3")),
    ] {
        let found = version_in(kind, path, constants);
        assert_eq!(found.as_deref(), expected, "{kind:?} {path}");
    }
}

#[test]
fn mimalloc_gives_back_as_its_build_and_its_variables_say() {
    use GivesBack::{DontNeed, Free, Never, Unknown};
    let new = MimallocOptions {
        purges: true,
        decommits: false,
    };
    let old = MimallocOptions {
        purges: false,
        decommits: true,
    };
    for (options, variable, expected) in [
        (new, "", DontNeed),
        (new, "mimalloc_purge_decommits=0", Free),
        (new, "MIMALLOC_RESET_DECOMMITS=off", Free),
        (new, "MIMALLOC_PURGE_DECOMMITS=1", DontNeed),
        (new, "MIMALLOC_PURGE_DELAY=-1", Never),
        (old, "", DontNeed),
        (old, "MIMALLOC_ALLOW_DECOMMIT=0", Unknown),
        (MimallocOptions::default(), "", Unknown),
    ] {
        let found = mimalloc(options, &environment(&[variable]));
        assert_eq!(found.gives_back, expected, "{variable}");
        assert_eq!(found.settings.len(), usize::from(!variable.is_empty()));
    }
}

#[test]
fn tcmalloc_keeps_all_where_it_is_told_to() {
    let kept = environment(&["TCMALLOC_DISABLE_MEMORY_RELEASE=1"]);
    assert_eq!(tcmalloc(Some("2.10"), &kept).gives_back, GivesBack::Never);
    let none = environment(&[]);
    assert_eq!(
        tcmalloc(Some("2.10"), &none).gives_back,
        GivesBack::DontNeed
    );
    assert_eq!(tcmalloc(None, &none).gives_back, GivesBack::DontNeed);
    assert_eq!(tcmalloc(Some("2.1"), &none).gives_back, GivesBack::Unknown);
}

#[test]
fn the_options_before_the_programs_own_are_taken_from_the_command_line() {
    let line =
        arguments("java -cp -Xmx1g -Xmx64m -XX:+UseG1GC -XX:+UseCompressedOops -ea Main -Xmx2g");
    let variables = environment(&["JAVA_TOOL_OPTIONS=-Xms8m", "SECRET=x"]);
    let jvm = runtime(Kind::Jvm, None, &variables, &line);
    assert_eq!(
        jvm.to_string(),
        "JVM (JAVA_TOOL_OPTIONS=-Xms8m, -Xmx64m, -XX:+UseG1GC)"
    );

    let line =
        arguments("node --max_old_space_size=100 --trace-gc -r x app.js --max-old-space-size=9");
    let node = runtime(Kind::Node, Some("20.20.2"), &environment(&[]), &line);
    assert_eq!(
        node.to_string(),
        "Node.js (V8) 20.20.2 (--max_old_space_size=100)"
    );
    assert_eq!(node.gives_back, GivesBack::DontNeed);
    assert!(
        runtime(Kind::Jvm, None, &environment(&[]), &[])
            .settings
            .is_empty()
    );
}

#[test]
fn each_takes_only_its_own_variables() {
    let variables = environment(&[
        "MALLOC_CONF=x:y",
        "MALLOC_ARENA_MAX=2",
        "GLIBC_TUNABLES=glibc.malloc.arena_max=1",
        "DOTNET_gcServer=1",
        "COMPlus_GCHeapHardLimit=100",
        "DOTNET_ROOT=/x",
        "PYTHONMALLOC=malloc",
    ]);
    let settings = |kind| runtime(kind, None, &variables, &[]).settings.len();
    assert_eq!(settings(Kind::Glibc), 2);
    assert_eq!(settings(Kind::DotNet), 2);
    assert_eq!(settings(Kind::Python), 1);
    assert_eq!(settings(Kind::Musl), 0);
}

#[test]
fn the_two_allocators_of_musl_give_back_differently() {
    let musl = |version| runtime(Kind::Musl, version, &environment(&[]), &[]).gives_back;
    assert_eq!(musl(Some("1.2.5")), GivesBack::Never);
    assert_eq!(musl(Some("1.1.24")), GivesBack::DontNeed);
    assert_eq!(musl(None), GivesBack::Unknown);
}
