//! Does nothing but wait: something to attach to.

use memtrace_tests::scene::Scene;

pub fn main() {
    Scene::open().ready().report(&[]);
}
