//! Text for people: the live stream, the status at the bottom, and the summary.

mod books;
mod commands;
mod errno;
mod gctrace;
mod palette;
mod rows;
mod rss;
mod status;
mod stream;
mod summary;
mod table;
mod throttle;
mod verdict;
mod what_if;
mod words;

use std::io::{self, BufWriter, Write};

use super::Output;
use super::escape::escape;
use super::terminal::Size;
use crate::ledger::event::Lost;
use crate::units::{SinceStart, counted};
use crate::view::commands::Commands;
use crate::view::{Header, Line, MemStatsLine, Status, Summary, Target, Total};
use palette::{Palette, paint};
use rows::Rows;
use throttle::Throttle;

const BUFFER_BYTES: usize = 64 * 1024;
/// Targets named when tracing begins; many more would hide what follows.
const TARGETS_NAMED: usize = 10;
const PATH_COLUMNS: usize = 80;

/// How the text is to look.
#[derive(Default)]
pub struct TextOptions {
    /// Whether to colour what stands out.
    pub colour: bool,
    /// Asks the terminal for its size, where the sink is one: the status then stays on its last
    /// rows, and the stream is capped.
    pub terminal: Option<Box<dyn Fn() -> Size>>,
    /// Lifts the cap on stream lines a second.
    pub all_lines: bool,
}

/// The terminal's last rows, and how to learn its size.
struct Screen {
    size: Box<dyn Fn() -> Size>,
    rows: Rows,
}

/// Writes text.
pub struct TextOutput {
    sink: BufWriter<Box<dyn Write>>,
    palette: Palette,
    start_ns: u64,
    throttle: Option<Throttle>,
    screen: Option<Screen>,
    /// The first loss was told of; later ones are in the status and the summary.
    lost: bool,
}

impl TextOutput {
    pub fn new(sink: Box<dyn Write>, options: TextOptions) -> Self {
        let capped = options.terminal.is_some() && !options.all_lines;
        Self {
            sink: BufWriter::with_capacity(BUFFER_BYTES, sink),
            palette: Palette::new(options.colour),
            start_ns: 0,
            throttle: capped.then(Throttle::default),
            screen: options.terminal.map(|size| Screen {
                size,
                rows: Rows::default(),
            }),
            lost: false,
        }
    }

    /// Writes lines where the status stands, which is drawn again by the next flush.
    fn print(&mut self, text: &str) -> io::Result<()> {
        if let Some(screen) = &mut self.screen {
            screen.rows.clear(&mut self.sink)?;
        }
        writeln!(self.sink, "{text}")
    }

    fn tell_hidden(&mut self, hidden: Option<u64>) -> io::Result<()> {
        let Some(hidden) = hidden else { return Ok(()) };
        let lines = counted(hidden, "line");
        let text = format!("{:>10}  {lines} not shown (--all-lines shows them)", "…");
        let text = paint(self.palette.faint, text);
        self.print(&text)
    }

    /// Whether the cap lets a stream line through.
    fn admit(&mut self, now_ns: u64) -> io::Result<bool> {
        self.advance(now_ns)?;
        Ok(self
            .throttle
            .as_mut()
            .is_none_or(|throttle| throttle.admit(now_ns)))
    }

    fn advance(&mut self, now_ns: u64) -> io::Result<()> {
        let hidden = self
            .throttle
            .as_mut()
            .and_then(|throttle| throttle.advance(now_ns));
        self.tell_hidden(hidden)
    }

    /// The stream is over: tells what is left to tell of it, and takes the status away.
    fn end_stream(&mut self) -> io::Result<()> {
        let hidden = self.throttle.as_mut().and_then(Throttle::finish);
        self.tell_hidden(hidden)?;
        match &mut self.screen {
            Some(screen) => {
                screen.rows.set(Vec::new());
                screen.rows.clear(&mut self.sink)
            }
            None => Ok(()),
        }
    }
}

impl Output for TextOutput {
    fn header(&mut self, header: &Header) -> io::Result<()> {
        self.start_ns = header.start_ns;
        self.print(&format!(
            "memtrace {} on Linux {} ({}), faults from {}",
            header.version,
            escape(&header.kernel, PATH_COLUMNS),
            header.arch,
            header.fault_source,
        ))?;
        for target in header.targets.iter().take(TARGETS_NAMED) {
            self.print(&format!("tracing {}", target_words(target)))?;
        }
        if header.targets.len() > TARGETS_NAMED {
            let more = header.targets.len() - TARGETS_NAMED;
            self.print(&format!("… and {more} more"))?;
        }
        self.flush()
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        if !self.admit(line.at_ns())? {
            return Ok(());
        }
        let text = stream::line(line, self.start_ns, &self.palette);
        self.print(&text)
    }

    fn status(&mut self, all: &[Status]) -> io::Result<()> {
        if let Some(now_ns) = all.iter().map(|one| one.at_ns).max() {
            self.advance(now_ns)?;
        }
        let rows = all.iter().map(|one| status::row(one, &self.palette));
        if let Some(screen) = &mut self.screen {
            screen.rows.set(rows.collect());
            return screen.rows.clear(&mut self.sink);
        }
        for (one, row) in all.iter().zip(rows) {
            let time = SinceStart(one.at_ns.saturating_sub(self.start_ns));
            let time = paint(self.palette.faint, format_args!("{time:>10}"));
            writeln!(self.sink, "{time}  {}", row.whole())?;
        }
        Ok(())
    }

    /// The summary has the table; the stream is the kernel's.
    fn memstats(&mut self, _: &MemStatsLine) -> io::Result<()> {
        Ok(())
    }

    fn lost(&mut self, lost: &Lost) -> io::Result<()> {
        let Some(counts) = words::lost(lost).filter(|_| !self.lost) else {
            return Ok(());
        };
        self.lost = true;
        let time = SinceStart(lost.at_ns.saturating_sub(self.start_ns));
        let text = format!(
            "{time:>10}  LOST {counts} so far: the figures are not exact; raise --ringbuf-size"
        );
        let text = paint(self.palette.failure, text);
        self.print(&text)
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.end_stream()?;
        self.print(&summary::summary(summary, &self.palette))
    }

    /// The table of commands has its figures.
    fn summary_in_brief(&mut self, _: &Summary) -> io::Result<()> {
        Ok(())
    }

    fn commands(&mut self, commands: &Commands) -> io::Result<()> {
        self.end_stream()?;
        self.print(&commands::table(commands, &self.palette))
    }

    fn total(&mut self, total: &Total) -> io::Result<()> {
        self.end_stream()?;
        self.print(&summary::total(total, &self.palette))
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(screen) = &mut self.screen
            && screen.rows.are_due()
        {
            screen.rows.draw(&mut self.sink, (screen.size)())?;
        }
        self.sink.flush()
    }
}

impl Drop for TextOutput {
    /// Leaves the terminal as it was found, however the trace ends.
    fn drop(&mut self) {
        if let Some(screen) = &mut self.screen {
            // Where the sink takes nothing any more there is nothing left to restore.
            let _ = screen.rows.clear(&mut self.sink);
            let _ = self.sink.flush();
        }
    }
}

fn target_words(target: &Target) -> String {
    let mut text = format!("{} (pid {})", words::comm(&target.comm), target.pid);
    if let Some(exe) = &target.exe {
        text += &format!(", {}", escape(exe, PATH_COLUMNS));
    }
    if let Some(runtime) = &target.runtime {
        text += &format!(", {}", escape(runtime, PATH_COLUMNS));
    }
    text
}
