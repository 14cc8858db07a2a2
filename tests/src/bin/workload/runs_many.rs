//! Has many children, one after the other, each of which gives memory back and takes it again; they run other
//! names of this program where a folder with such names is given.

use std::ffi::CString;
use std::ptr;

use memtrace_tests::area::Area;
use memtrace_tests::processes::{fork, reap};
use memtrace_tests::scene::{Scene, exit, fail, number_argument};

/// The largest child has so many pages, the others fewer.
const MOST_PAGES: usize = 64;

/// `runs_many CHILDREN`, or `runs_many CHILDREN FOLDER NAMES` for the files name0, name1... in it.
/// `runs_many child PAGES` is what the children run.
pub fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, _, word, pages] = &args[..]
        && word == "child"
    {
        act(pages.parse().unwrap_or_else(|_| fail("no number of pages")));
        exit(0);
    }
    let children = number_argument(2).unwrap_or_else(|| fail("how many children?"));
    let names = number_argument(4).unwrap_or(0);
    let paths: Vec<CString> = (0..names)
        .filter_map(|n| CString::new(format!("{}/name{n}", args[3])).ok())
        .collect();
    let pages: Vec<CString> = (0..=MOST_PAGES)
        .filter_map(|n| CString::new(n.to_string()).ok())
        .collect();
    let act_of = |n: usize| n % MOST_PAGES + 1;

    let scene = Scene::open().ready();
    let (mut minor, mut major, mut all) = (0, 0, 0);
    for n in 0..children {
        let child = fork();
        if child == 0 {
            let count = act_of(n);
            if names > 0 {
                run(&paths[n % names], &pages[count]);
            }
            act(count);
            exit(0);
        }
        let ended = reap(child);
        if ended.status != 0 {
            fail("a child failed");
        }
        minor += ended.faults.minor;
        major += ended.faults.major;
        all += act_of(n);
    }
    scene.report(&[
        ("pages", all as i64),
        ("children_minflt", minor as i64),
        ("children_majflt", major as i64),
    ]);
}

/// Gives all of it back at once, and takes it again.
fn act(pages: usize) {
    let area = Area::map(pages);
    area.write();
    area.give_back(libc::MADV_DONTNEED);
    area.write();
}

fn run(path: &CString, pages: &CString) {
    let args = [
        path.as_ptr(),
        c"runs_many".as_ptr(),
        c"child".as_ptr(),
        pages.as_ptr(),
        ptr::null(),
    ];
    // SAFETY: the strings are C strings, and the arrays end with null.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), [ptr::null()].as_ptr()) };
    fail("execve");
}
