//! A tracepoint's `format` file in tracefs: where each field lies in its record (kernel/trace/trace_events.c:f_show).

use std::collections::HashMap;
use std::io;

use super::tracefs;
use crate::proc::read_bounded;

/// Where a field lies in the record, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub offset: u32,
    pub size: u32,
}

/// The fields of one tracepoint by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    fields: HashMap<String, Field>,
}

impl Format {
    pub fn field(&self, name: &str) -> Option<Field> {
        self.fields.get(name).copied()
    }

    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// Reads the format of a tracepoint. To be called inside [`tracefs::with_tracefs`].
///
/// # Errors
/// NotFound where tracefs is not to be seen or the kernel has no such tracepoint.
pub fn read_format(category: &str, event: &str) -> io::Result<Format> {
    let root = tracefs::root().ok_or(io::ErrorKind::NotFound)?;
    let path = root
        .join("events")
        .join(category)
        .join(event)
        .join("format");
    Ok(parse(&read_bounded(path, 64 * 1024)?))
}

/// The fields in the text of a format file; lines that are none are passed over.
pub fn parse(text: &[u8]) -> Format {
    let fields = text
        .split(|&b| b == b'\n')
        .filter_map(|line| parse_field(std::str::from_utf8(line).ok()?))
        .collect();
    Format { fields }
}

/// `\tfield:unsigned long address;\toffset:8;\tsize:8;\tsigned:0;`
fn parse_field(line: &str) -> Option<(String, Field)> {
    let mut parts = line.trim().split(';').map(str::trim);
    let declaration = parts.next()?.strip_prefix("field:")?;
    let (mut offset, mut size) = (None, None);
    for part in parts {
        match part.split_once(':') {
            Some(("offset", value)) => offset = value.parse().ok(),
            Some(("size", value)) => size = value.parse().ok(),
            _ => {}
        }
    }
    // The name is the last word, without the length of an array.
    let name = declaration
        .rsplit(|c: char| c.is_whitespace() || c == '*')
        .find(|word| !word.is_empty())?;
    let name = name.split('[').next().filter(|name| !name.is_empty())?;
    Some((
        name.to_owned(),
        Field {
            offset: offset?,
            size: size?,
        },
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proc::{is_root, not_run};

    const MADVISE: &str = "name: sys_enter_madvise\nID: 690\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n\
        \tfield:unsigned long start;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:const char * name;\toffset:24;\tsize:8;\tsigned:0;\n\
        \tfield:const char *path;\toffset:28;\tsize:8;\tsigned:0;\n\
        \tfield:char comm[16];\toffset:32;\tsize:16;\tsigned:0;\n\
        \nprint fmt: \"start: 0x%08lx\", ((unsigned long)(REC->start))\n";

    #[test]
    fn fields_are_found_by_name_whatever_their_type() {
        let format = parse(MADVISE.as_bytes());
        let at = |name| format.field(name).map(|field| (field.offset, field.size));
        assert_eq!(at("__syscall_nr"), Some((8, 4)));
        assert_eq!(at("start"), Some((16, 8)));
        assert_eq!(at("name"), Some((24, 8)));
        assert_eq!(at("path"), Some((28, 8)));
        assert_eq!(at("comm"), Some((32, 16)));
        assert_eq!(at("end"), None);
        assert_eq!(format.len(), 7);
    }

    #[test]
    fn the_running_kernels_formats_can_be_read() {
        if !is_root() {
            return not_run("tracefs needs root", "run the tests as root");
        }
        let (madvise, missing) = tracefs::with_tracefs(|| {
            (
                read_format("syscalls", "sys_enter_madvise"),
                read_format("syscalls", "no_such_event"),
            )
        })
        .unwrap();
        let madvise = madvise.unwrap();
        for name in ["__syscall_nr", "start", "len_in", "behavior"] {
            assert!(madvise.field(name).is_some(), "{name}");
        }
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            parse(&bytes);
        }

        #[test]
        fn anything_like_a_format_is_survived(
            text in "(\tfield:[a-z* \\[\\]]{0,12};(\toffset:[-0-9]{0,12};)?(\tsize:[0-9]{0,12};)?\n){0,8}"
        ) {
            parse(text.as_bytes());
        }
    }
}
