//! The first process of a guest: sets the machine up as the plan says, runs the tests, tells the host, and powers off.

mod console;
mod fentry;
mod run;
mod setup;
mod swap;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use xtask::vm::protocol::{Message, PLAN, PROGRAMS, Plan};

use crate::console::Console;

fn main() {
    if std::process::id() != 1 {
        eprintln!(
            "guest-init: this is the first process of a test guest; `cargo xtask vm-test` boots one"
        );
        std::process::exit(2);
    }
    // Without these nothing can be told to anyone: the kernel's own log is all that is left.
    let console = setup::file_systems().and_then(|()| Console::open());
    match console {
        Ok(mut console) => {
            let last = match work(&mut console) {
                Ok(()) => Message::Done,
                Err(error) => Message::Broken {
                    why: format!("{error:#}"),
                },
            };
            if let Err(error) = console.say(&last) {
                eprintln!("guest-init: {error:#}");
            }
            console.flush();
        }
        Err(error) => eprintln!("guest-init: {error:#}"),
    }
    // SAFETY: nothing here is worth keeping. QEMU is told to end instead of booting again.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
}

fn work(console: &mut Console) -> Result<()> {
    let plan = fs::read(PLAN).with_context(|| format!("cannot read {PLAN}"))?;
    let plan: Plan = serde_json::from_slice(&plan).with_context(|| format!("{PLAN} is no plan"))?;
    setup::machine(&plan.setup)?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's name")?;
    console.say(&Message::Booted {
        release: release.trim().to_owned(),
    })?;
    console.say(&Message::Doctor {
        report: run::doctor(Path::new(PROGRAMS))?,
    })?;
    let fentry = fentry::attempt();
    console.say(&Message::Fentry {
        works: fentry.is_ok(),
        detail: fentry.map_or_else(|error| format!("{error:#}"), |()| String::new()),
    })?;
    run::tests(&plan, console)
}
