//! One JSON object with typed access; a failure names the key and shows the whole object.

use serde_json::Value;

/// An object: a line of memtrace's stream, or what a workload reported.
#[derive(Clone, Debug)]
pub struct Record(Value);

impl Record {
    /// Parses one line.
    pub fn parse(line: &str) -> Result<Self, String> {
        match serde_json::from_str(line) {
            Ok(value @ Value::Object(_)) => Ok(Self(value)),
            Ok(_) => Err(format!("not an object: {line}")),
            Err(error) => Err(format!("{error}: {line:?}")),
        }
    }

    /// What kind of line it is.
    pub fn kind(&self) -> &str {
        self.text("type")
    }

    /// The value at a path such as `faults.bytes.total`; None where a key is missing.
    pub fn find(&self, path: &str) -> Option<&Value> {
        path.split('.')
            .try_fold(&self.0, |value, key| value.get(key))
    }

    /// The value at a path.
    pub fn at(&self, path: &str) -> &Value {
        self.find(path)
            .unwrap_or_else(|| panic!("no {path} in\n{self}"))
    }

    /// A number that is never negative.
    pub fn count(&self, path: &str) -> u64 {
        let value = self.at(path);
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{path} is {value}, not a count, in\n{self}"))
    }

    /// A count, or 0 where the key is null or missing: for advice that need not have been seen and
    /// classes that cannot be proven.
    pub fn count_or_none(&self, path: &str) -> u64 {
        match self.find(path) {
            None | Some(Value::Null) => 0,
            Some(_) => self.count(path),
        }
    }

    /// A number that may be negative.
    pub fn signed(&self, path: &str) -> i64 {
        let value = self.at(path);
        value
            .as_i64()
            .unwrap_or_else(|| panic!("{path} is {value}, not an integer, in\n{self}"))
    }

    pub fn real(&self, path: &str) -> f64 {
        let value = self.at(path);
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{path} is {value}, not a number, in\n{self}"))
    }

    pub fn text(&self, path: &str) -> &str {
        let value = self.at(path);
        value
            .as_str()
            .unwrap_or_else(|| panic!("{path} is {value}, not a string, in\n{self}"))
    }

    pub fn truth(&self, path: &str) -> bool {
        let value = self.at(path);
        value
            .as_bool()
            .unwrap_or_else(|| panic!("{path} is {value}, not a bool, in\n{self}"))
    }

    pub fn list(&self, path: &str) -> Vec<Self> {
        let value = self.at(path);
        let list = value
            .as_array()
            .unwrap_or_else(|| panic!("{path} is {value}, not a list, in\n{self}"));
        list.iter().cloned().map(Self).collect()
    }

    /// A list of strings.
    pub fn texts(&self, path: &str) -> Vec<&str> {
        let value = self.at(path);
        let list = value.as_array().map(|list| list.iter().map(Value::as_str));
        list.and_then(Iterator::collect)
            .unwrap_or_else(|| panic!("{path} is {value}, not a list of strings, in\n{self}"))
    }

    /// The names of an object's keys, sorted.
    pub fn keys(&self, path: &str) -> Vec<&str> {
        let value = self.at(path);
        let object = value
            .as_object()
            .unwrap_or_else(|| panic!("{path} is {value}, not an object, in\n{self}"));
        let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
        // In whichever order serde_json keeps them, which another crate's features decide.
        keys.sort_unstable();
        keys
    }

    /// Asserts that the key is there and null: not known, or not applicable.
    #[track_caller]
    pub fn expect_null(&self, path: &str) {
        let value = self.at(path);
        assert!(value.is_null(), "{path} is {value}, not null, in\n{self}");
    }

    /// Asserts several counts at once, so that a failure shows all that differ.
    #[track_caller]
    pub fn expect(&self, counts: &[(&str, u64)]) {
        let differences: Vec<String> = counts
            .iter()
            .filter_map(|(path, expected)| {
                let found = self.find(path);
                let as_expected = found.and_then(Value::as_u64) == Some(*expected);
                let found = found.map_or("missing".to_owned(), Value::to_string);
                (!as_expected).then(|| format!("{path}: {found}, expected {expected}"))
            })
            .collect();
        assert!(
            differences.is_empty(),
            "{}\nin\n{self}",
            differences.join("\n")
        );
    }
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reaches_into_objects_and_tells_null_from_missing() {
        let record = Record::parse(r#"{"a":{"b":3,"c":null}}"#).expect("it is valid");
        assert_eq!(record.count("a.b"), 3);
        assert_eq!(record.count_or_none("a.c"), 0);
        assert_eq!(record.count_or_none("a.d"), 0);
        record.expect_null("a.c");
        assert!(record.find("a.d").is_none());
    }

    #[test]
    #[should_panic(expected = "a.b: 3, expected 4\na.d: missing, expected 0")]
    fn every_difference_is_named() {
        let record = Record::parse(r#"{"a":{"b":3}}"#).expect("it is valid");
        record.expect(&[("a.b", 4), ("a.d", 0)]);
    }
}
