//! Replaces what stands between two marks in a document.
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};

const BEGIN: &str = "<!-- bench: written by `cargo xtask bench` -->";
const END: &str = "<!-- /bench -->";

pub fn replace_in(path: &Path, new: &str) -> Result<()> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = replace(&text, new).with_context(|| path.display().to_string())?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn replace(text: &str, new: &str) -> Result<String> {
    let (before, rest) = text
        .split_once(BEGIN)
        .ok_or_else(|| anyhow!("there is no mark {BEGIN}"))?;
    let (_, after) = rest
        .split_once(END)
        .ok_or_else(|| anyhow!("there is no mark {END} after the first one"))?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", new.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let replaced = replace(&text, "new\n").expect("both marks are there");
        assert_eq!(replaced, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(replace(&replaced, "new").expect("they still are"), replaced);
        assert!(replace("a", "new").is_err());
        assert!(replace(BEGIN, "new").is_err());
    }
}
