//! The environment and the command line of a process, as they were at its last exec.

/// NUL-separated variables, in their order. Not Debug: an environment holds secrets.
#[derive(Default)]
pub(super) struct Environment {
    variables: Vec<(String, String)>,
    /// It is no longer what the process was given: see [`Environment::is_known`].
    overwritten: bool,
}

impl Environment {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let variables = bytes
            .split(|&byte| byte == 0)
            .filter_map(|entry| {
                let at = entry.iter().position(|&byte| byte == b'=')?;
                // An entry that begins with '=' has no name.
                (at > 0).then(|| (text(&entry[..at]), text(&entry[at + 1..])))
            })
            .collect();
        // Spaces or NULs, as a rule, and the tail of a title.
        let first = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        let overwritten = !bytes.is_empty() && !first.contains(&b'=');
        Self {
            variables,
            overwritten,
        }
    }

    /// False where a title lies over it: programs that show what they do in ps (setproctitle(3) in
    /// Redis, PostgreSQL, nginx; `$0` in Perl) move their environment away and write there.
    pub(super) fn is_known(&self) -> bool {
        !self.overwritten
    }

    /// How many variables a look-up passes.
    pub(super) fn len(&self) -> usize {
        self.variables.len()
    }

    /// The first of that name, as getenv(3) finds it.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// As [`Environment::get`], whatever its upper and lower case.
    pub(super) fn get_ignoring_case(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All whose name begins so, whatever its upper and lower case.
    pub(super) fn beginning_with(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().filter_map(move |(key, value)| {
            key.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
                .then_some((key.as_str(), value.as_str()))
        })
    }
}

/// The arguments of a command line, the program's own name first.
pub(super) fn arguments(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|&byte| byte == 0).map(text).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_of_a_name_counts_and_broken_ones_are_left_out() {
        let environment = Environment::parse(b"A=1\0A=2\0=x\0novalue\0B=\0mi_x=3\0C=a=b\xff");
        assert_eq!(environment.get("A"), Some("1"));
        assert_eq!(environment.get("B"), Some(""));
        assert_eq!(environment.get("C"), Some("a=b\u{fffd}"));
        assert_eq!(environment.get("novalue"), None);
        assert_eq!(environment.get_ignoring_case("MI_X"), Some("3"));
        let found: Vec<_> = environment.beginning_with("MI_").collect();
        assert_eq!(found, [("mi_x", "3")]);
    }

    #[test]
    fn a_title_in_its_place_is_told_from_an_environment() {
        for known in [&b""[..], b"A=1\0", b"A=\0novalue\0", b"=x\0"] {
            assert!(Environment::parse(known).is_known(), "{known:?}");
        }
        for title in [&b"\0\0\0"[..], b"     ", b"idle\0\0", b"\0\0\0A=1\0"] {
            assert!(!Environment::parse(title).is_known(), "{title:?}");
        }
    }

    #[test]
    fn a_prefix_may_end_inside_a_character_of_a_name() {
        let environment = Environment::parse("ää=1".as_bytes());
        assert_eq!(environment.beginning_with("MIM").count(), 0);
    }

    #[test]
    fn arguments_may_be_empty() {
        assert_eq!(arguments(b"a\0\0b\0"), ["a", "", "b"]);
        assert!(arguments(b"").is_empty());
    }
}
