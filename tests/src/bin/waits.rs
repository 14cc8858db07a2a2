//! Does nothing but wait: something to attach to.

use memtrace_tests::scene::Scene;

fn main() {
    Scene::open().ready().report(&[]);
}
