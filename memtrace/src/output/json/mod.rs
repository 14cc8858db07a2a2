//! JSON: one object a line, `type` first; docs/json.md describes every key.

mod fragment;
mod gctrace;
mod go;
mod judged;
mod lines;
mod totals;
mod what_if;

use std::io::{self, BufWriter, Write};

use serde::Serialize;
use serde_json::Serializer;

use super::Output;
use crate::ledger::event::Lost;
use crate::view::commands::Commands;
use crate::view::{Header, Line, MemStatsLine, Status, Summary, Total};
use fragment::TerminalSafe;

/// Lines are longer than a text's, and a burst of them should reach the sink in few writes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Writes every line as an object of its own.
pub struct JsonOutput {
    sink: BufWriter<Box<dyn Write>>,
    /// The line being made, so that the sink always takes whole lines.
    line: Vec<u8>,
}

impl JsonOutput {
    pub fn new(sink: Box<dyn Write>) -> Self {
        Self {
            sink: BufWriter::with_capacity(BUFFER_BYTES, sink),
            line: Vec::new(),
        }
    }

    fn write(&mut self, row: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        row.serialize(&mut Serializer::with_formatter(
            &mut self.line,
            TerminalSafe,
        ))?;
        self.line.push(b'\n');
        self.sink.write_all(&self.line)
    }
}

/// Writes one object as a line, in which nothing can act upon a terminal.
pub(crate) fn write_line(out: &mut (impl Write + ?Sized), row: &impl Serialize) -> io::Result<()> {
    let mut line = Vec::new();
    row.serialize(&mut Serializer::with_formatter(&mut line, TerminalSafe))?;
    line.push(b'\n');
    out.write_all(&line)
}

impl Output for JsonOutput {
    fn header(&mut self, header: &Header) -> io::Result<()> {
        self.write(&lines::HeaderRow::of(header))?;
        self.sink.flush()
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        match line {
            Line::Call(call) => self.write(&lines::CallRow(call)),
            Line::Faults(run) => self.write(&lines::FaultRow::of(run)),
            Line::Process(process) => self.write(&lines::ProcessRow::of(process)),
            Line::Go(line) => self.write(&gctrace::GoRow::of(line)),
        }
    }

    fn status(&mut self, all: &[Status]) -> io::Result<()> {
        for one in all {
            self.write(&lines::StatusRow::of(one))?;
        }
        Ok(())
    }

    fn memstats(&mut self, line: &MemStatsLine) -> io::Result<()> {
        self.write(&go::MemStatsRow::of(line))
    }

    fn lost(&mut self, lost: &Lost) -> io::Result<()> {
        self.write(&lines::LostRow::of(lost))
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.write(&lines::SummaryRow::of(summary))
    }

    fn summary_in_brief(&mut self, summary: &Summary) -> io::Result<()> {
        self.summary(summary)
    }

    fn commands(&mut self, commands: &Commands) -> io::Result<()> {
        for one in &commands.folded {
            self.write(&lines::FoldedRow::of(one))?;
        }
        Ok(())
    }

    fn total(&mut self, total: &Total) -> io::Result<()> {
        self.write(&lines::TotalRow::of(total))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::view::{ProcessEvent, ProcessLine};

    /// A sink that remembers each write it was given.
    #[derive(Clone, Default)]
    struct Writes(Rc<RefCell<Vec<Vec<u8>>>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct ClosedPipe;

    impl Write for ClosedPipe {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn exec(comm: &str) -> Line {
        Line::Process(ProcessLine {
            at_ns: 1,
            pid: 2,
            event: ProcessEvent::Exec {
                comm: comm.to_owned(),
            },
        })
    }

    fn header() -> Header {
        Header {
            version: "0".to_owned(),
            kernel: "6".to_owned(),
            arch: "x86_64".to_owned(),
            page_bytes: 4096,
            started_at: "2025-11-21T01:43:07.250Z".to_owned(),
            start_ns: 0,
            fault_source: "tp_btf",
            targets: Vec::new(),
        }
    }

    #[test]
    fn the_header_is_written_at_once_and_lines_wait_for_a_flush() {
        let writes = Writes::default();
        let mut output = JsonOutput::new(Box::new(writes.clone()));
        output.header(&header()).expect("a sink that takes all");
        assert_eq!(writes.0.borrow().len(), 1);
        output.line(&exec("a")).expect("a sink that takes all");
        output.line(&exec("b")).expect("a sink that takes all");
        assert_eq!(writes.0.borrow().len(), 1);
        output.flush().expect("a sink that takes all");
        assert_eq!(writes.0.borrow().len(), 2);
    }

    #[test]
    fn a_burst_reaches_the_sink_in_few_writes_of_whole_lines() {
        let writes = Writes::default();
        let mut output = JsonOutput::new(Box::new(writes.clone()));
        for _ in 0..10_000 {
            output.line(&exec("a")).expect("a sink that takes all");
        }
        output.flush().expect("a sink that takes all");
        let writes = writes.0.borrow();
        assert!(writes.len() < 30, "{}", writes.len());
        assert!(writes.iter().all(|bytes| bytes.ends_with(b"}\n")));
    }

    #[test]
    fn a_closed_pipe_is_told_as_such() {
        let mut output = JsonOutput::new(Box::new(ClosedPipe));
        let error = output.header(&header()).expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn names_cannot_act_on_a_terminal_and_come_back_whole() {
        let hostile = "\u{9b}31m\u{202e}\x1b\n\"\\\x7f é日🦀\u{e0041}";
        let writes = Writes::default();
        let mut output = JsonOutput::new(Box::new(writes.clone()));
        output.line(&exec(hostile)).expect("a sink that takes all");
        output.flush().expect("a sink that takes all");
        let text = String::from_utf8(writes.0.borrow().concat()).expect("JSON is UTF-8");
        let line = text.strip_suffix('\n').expect("one line");
        assert!(line.chars().all(|c| !c.is_control()), "{line}");
        assert!(!line.contains('\u{202e}'));
        assert!(line.contains("é日🦀"));
        let value: serde_json::Value = serde_json::from_str(line).expect("valid JSON");
        assert_eq!(value["comm"], hostile);
    }
}
