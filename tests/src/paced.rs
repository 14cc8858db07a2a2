//! A trace with a status line five times a second, and a workload that does a step for each.

use crate::run::{Rules, Run};
use crate::tracer::Trace;
use crate::wait;
use crate::workload::Workload;

const INTERVAL: &str = "0.2";

/// The stream is left out; all else is as strict as ever.
pub fn quiet() -> Rules {
    Rules {
        whole_stream: false,
        ..Rules::default()
    }
}

/// Attaches without a stream, with a status line five times a second.
pub fn attach(pid: u32, extra: &[&str]) -> Trace {
    let mut args = vec!["-q", "--interval", INTERVAL];
    args.extend(extra);
    let mut trace = Trace::attach(pid, &args);
    trace.rules = quiet();
    trace
}

/// Lets a workload do its steps, one for each status line.
fn pace(workload: &mut Workload, trace: &Trace, steps: u64) {
    let shown = || trace.output().matches("{\"type\":\"status\"").count();
    for step in 1..=steps {
        let before = shown();
        workload.say("step").expect(&[("step", step)]);
        wait::until("a status line", || (shown() > before).then_some(()));
    }
}

/// Traces a workload that does one step for each status line, from before it begins.
pub fn steps(mut workload: Workload, steps: u64, extra: &[&str], rules: Rules) -> Run {
    let mut trace = attach(workload.pid, extra);
    trace.rules = rules;
    workload.go();
    pace(&mut workload, &trace, steps);
    // Before the process is gone, so that the last look is of its end.
    trace.signal(libc::SIGINT);
    let run = trace.finish();
    workload.end();
    run
}
