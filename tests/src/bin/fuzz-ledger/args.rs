//! The command line of the fuzzer.

use memtrace_tests::differential::mode::Mode;

/// What was asked for.
pub struct Args {
    pub seconds: u64,
    pub runs: u64,
    pub seed: u64,
    pub modes: Vec<Mode>,
    /// Runs that making one program small may take.
    pub shrink: usize,
    /// Kinds of differences to heed: those with this in their name.
    pub only: String,
    /// Whether each program is told, not only the first difference of its kind.
    pub all: bool,
    /// Programs of one run of memtrace, where it launches them.
    pub together: u64,
}

impl Args {
    pub fn parse() -> Result<Self, String> {
        let mut args = Self {
            seconds: 60,
            runs: u64::MAX,
            seed: 1,
            modes: Mode::all(),
            shrink: 40,
            only: String::new(),
            all: false,
            together: 8,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            if word == "--all" {
                args.all = true;
                continue;
            }
            let value = words
                .next()
                .ok_or_else(|| format!("{word} wants a value"))?;
            args.set(&word, &value)?;
        }
        Ok(args)
    }

    fn set(&mut self, word: &str, value: &str) -> Result<(), String> {
        let number = || {
            let number = value.parse::<u64>();
            number.map_err(|why| format!("{word} {value}: {why}"))
        };
        match word {
            "--minutes" => self.seconds = number()? * 60,
            "--seconds" => self.seconds = number()?,
            "--runs" => self.runs = number()?,
            "--seed" => self.seed = number()?,
            "--shrink" => self.shrink = number()? as usize,
            "--together" => self.together = number()?.max(1),
            "--only" => value.clone_into(&mut self.only),
            "--mode" => self.modes = modes(value)?,
            _ => return Err(format!("{word} is no option")),
        }
        Ok(())
    }
}

/// Modes by their names, with commas.
fn modes(names: &str) -> Result<Vec<Mode>, String> {
    let mut modes = Vec::new();
    for name in names.split(',') {
        let named = Mode::named(name);
        if named.is_empty() {
            let all: Vec<String> = Mode::all().iter().map(Mode::name).collect();
            return Err(format!("no mode {name}; there are {}", all.join(", ")));
        }
        modes.extend(named);
    }
    Ok(modes)
}
