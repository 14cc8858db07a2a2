//! Tests of where paths lead, in folders of which some are open to others.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::*;
use crate::output::file::tests::Folder;
use crate::proc::{is_root, not_run};

const NOBODY: u32 = 65534;

fn found(path: &Path) -> Result<(CString, bool), String> {
    match Place::find(path) {
        Ok(place) => match place.found.map(|found| place.check(found)) {
            Some(Err(why)) => Err(why.to_string()),
            found => Ok((place.name, found.is_some())),
        },
        Err(why) => Err(why.to_string()),
    }
}

#[track_caller]
fn refused(path: &Path, word: &str) {
    let why = found(path).expect_err("it is refused");
    assert!(why.contains(word), "{why}");
}

/// A folder with that mode, and one in it that has a file.
fn folder(mode: u32) -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.join("own")).unwrap();
    fs::write(folder.join("own/file"), "x").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    folder
}

fn no_root() -> bool {
    if !is_root() {
        not_run(
            "only root can make files of another user's",
            "run the tests as root",
        );
    }
    !is_root()
}

#[test]
fn names_links_and_what_is_not_there_are_told_apart() {
    let folder = folder(0o755);
    let is = |name: &str, there| Ok((CString::new(name).unwrap(), there));
    assert_eq!(found(&folder.join("own/file")), is("file", true));
    assert_eq!(found(&folder.join("own/../own/./file")), is("file", true));
    assert_eq!(found(&folder.join("new")), is("new", false));
    symlink("own/file", folder.join("link")).unwrap();
    symlink(folder.join("own"), folder.join("there")).unwrap();
    symlink("there/new", folder.join("dangling")).unwrap();
    symlink("round", folder.join("round")).unwrap();
    assert_eq!(found(&folder.join("link")), is("file", true));
    assert_eq!(found(&folder.join("there/file")), is("file", true));
    assert_eq!(found(&folder.join("dangling")), is("new", false));
    refused(&folder.join("round"), "symbolic links");
    refused(&folder.join("own"), "a folder");
    refused(&folder.join("there"), "a folder");
    refused(&folder.join("new/"), "a folder");
    refused(Path::new("/"), "a folder");
    refused(&folder.join("no/file"), "no such folder");
    refused(&folder.join("own/file/x"), "no such folder");
    // A link of /proc leads to the file, whatever its text.
    let open = fs::File::open(folder.join("own/file")).unwrap();
    let magic = format!("/proc/self/fd/{}", open.as_raw_fd());
    let place = Place::find(Path::new(&magic)).unwrap();
    assert!(place.magic);
    let through = format!("/proc/self/root{}", folder.join("own/file").display());
    assert_eq!(found(Path::new(&through)), is("file", true));
}

#[test]
fn links_of_others_are_refused_where_others_can_write() {
    if no_root() {
        return;
    }
    for (mode, owner) in [(0o1777, 0), (0o775, 0), (0o757, 0), (0o755, NOBODY)] {
        let folder = folder(mode);
        chown(folder.path(), Some(owner), None).unwrap();
        for (name, target) in [
            ("last", "own/file"),
            ("dangling", "own/new"),
            ("middle", "own"),
        ] {
            symlink(target, folder.join(name)).unwrap();
        }
        for name in ["last", "dangling", "middle/file"] {
            assert!(
                found(&folder.join(name)).is_ok(),
                "root's own link, {name} in {mode:o}"
            );
        }
        for name in ["last", "dangling", "middle"] {
            std::os::unix::fs::lchown(folder.join(name), Some(NOBODY), None).unwrap();
        }
        for name in ["last", "dangling", "middle/file"] {
            refused(&folder.join(name), "symbolic link of user 65534");
        }
        // Also where a link of root's own leads there.
        let own = Folder::new();
        symlink(folder.join("last"), own.join("to")).unwrap();
        refused(&own.join("to"), "symbolic link of user 65534");
    }
    // Nobody else can have put it where only root can write.
    let private = folder(0o755);
    symlink("own/file", private.join("last")).unwrap();
    std::os::unix::fs::lchown(private.join("last"), Some(NOBODY), None).unwrap();
    assert!(found(&private.join("last")).is_ok());
}

#[test]
fn files_of_others_and_second_names_are_refused_where_others_can_write() {
    if no_root() {
        return;
    }
    let shared = folder(0o1777);
    let file = shared.join("theirs");
    fs::write(&file, "x").unwrap();
    assert!(found(&file).is_ok(), "root's own");
    chown(&file, Some(NOBODY), None).unwrap();
    refused(&file, "belongs to user 65534");
    fs::hard_link(shared.join("own/file"), shared.join("second")).unwrap();
    refused(&shared.join("second"), "2 names");
    // Where nobody else can write, all of that is root's own doing.
    assert!(found(&shared.join("own/file")).is_ok());
    // What its owner has in a folder of its own is no stranger's.
    let theirs = folder(0o755);
    let file = theirs.join("file");
    fs::write(&file, "x").unwrap();
    for path in [theirs.path(), &file] {
        chown(path, Some(NOBODY), None).unwrap();
    }
    assert!(found(&file).is_ok());
}
