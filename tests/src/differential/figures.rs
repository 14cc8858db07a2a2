//! What memtrace wrote: fault lines by page and summaries by process.

use std::collections::BTreeMap;

use serde_json::Value;

use super::model::{Class, Expected};
use super::places::{PAGE, Places};

/// What one process's lines and summary say.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub summary: Value,
    /// Lines of faults on the pages of the tester, each fault its own.
    pub faults: BTreeMap<u64, Vec<Expected>>,
    /// Faults on other pages, by class.
    pub elsewhere: BTreeMap<Class, u64>,
    /// Faults of all lines, by class; first writes to the zero page apart.
    pub lines: BTreeMap<Class, u64>,
    pub zero_writes: u64,
}

impl Figures {
    /// Of the process, from all that was written.
    pub fn read(output: &str, pid: u32, places: Places) -> Result<Self, String> {
        let mut figures = Self::default();
        for line in output.lines() {
            let value: Value =
                serde_json::from_str(line).map_err(|why| format!("{why}: {line}"))?;
            if value["pid"].as_u64() != Some(u64::from(pid)) {
                continue;
            }
            match value["type"].as_str() {
                Some("fault") => figures.fault(&value, places)?,
                Some("summary") => {
                    if figures.summary != Value::Null {
                        return Err(format!("two summaries of process {pid}"));
                    }
                    figures.summary = value;
                }
                _ => {}
            }
        }
        if figures.summary == Value::Null {
            return Err(format!("no summary of process {pid}"));
        }
        Ok(figures)
    }

    fn fault(&mut self, line: &Value, places: Places) -> Result<(), String> {
        let number = |key: &str| line[key].as_u64().ok_or_else(|| format!("{key} of {line}"));
        let class = line["class"].as_str().and_then(Class::named);
        let class = class.ok_or_else(|| format!("class of {line}"))?;
        let zero_write = line["zero_page_write"].as_bool() == Some(true);
        let (start, faults) = (number("addr")?, number("faults")?);
        for index in 0..faults {
            let one = Expected::line(class, zero_write);
            match places.page(start + index * PAGE) {
                Some(page) => self.faults.entry(page).or_default().push(one),
                None => *self.elsewhere.entry(class).or_default() += 1,
            }
        }
        if zero_write {
            self.zero_writes += faults;
        } else {
            *self.lines.entry(class).or_default() += faults;
        }
        Ok(())
    }

    /// A number of the summary, by a path with dots; None for null and for what is not there.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.at(path).as_u64()
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.at(path).as_str()
    }

    pub fn at(&self, path: &str) -> &Value {
        let mut value = &self.summary;
        for key in path.split('.') {
            value = &value[key];
        }
        value
    }

    pub fn is_exact(&self) -> bool {
        self.at("exact").as_bool() == Some(true)
    }
}
