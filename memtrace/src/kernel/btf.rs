//! Offsets of members of kernel structures, read from the kernel's own BTF (include/uapi/linux/btf.h).
//!
//! BTF is the kernel's description of its types. aya reads it too but keeps its accessors to
//! itself, and the one crate for it is LGPL; this reads just enough of it for offsets.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;

/// The file is some 5 MB; a distribution kernel's with everything built in is below 20.
const MAX_FILE: u64 = 128 << 20;
const MAGIC: u16 = 0xeb9f;
/// How deep unnamed structures may lie in each other, and how many members one question may look at.
const MAX_DEPTH: u32 = 16;
const MAX_MEMBERS: u32 = 1 << 20;

/// The kinds that are looked into; BTF_KIND_* in the header.
mod kind {
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const TYPE_TAG: u32 = 18;
}

/// BTF as read, with an index from type id to place.
pub struct Btf {
    bytes: Vec<u8>,
    strings: Range<usize>,
    /// Where each type begins. Type ids count from 1; 0 is void.
    types: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Type {
    /// Where its own part begins, behind the common 12 bytes.
    body: usize,
    name: u32,
    kind: u32,
    count: u32,
    /// Member offsets carry the size of a bit-field in their upper byte.
    bit_fields: bool,
    /// For modifiers: the type they modify.
    refers_to: u32,
}

impl Btf {
    /// Reads the running kernel's BTF.
    ///
    /// # Errors
    /// NotFound where the kernel was built without (CONFIG_DEBUG_INFO_BTF), `InvalidData` where it is no BTF.
    pub fn of_kernel() -> io::Result<Self> {
        let file = File::open(super::BTF_PATH)?;
        let size = file.metadata()?.len().min(MAX_FILE);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Self::parse(bytes).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the kernel's BTF is not of a form this version of memtrace reads",
            )
        })
    }

    /// Indexes BTF; `None` if it is cut, twisted, big-endian, or has a kind of type this does not know the size of.
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        if u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC || *bytes.get(2)? != 1 {
            return None;
        }
        let header = u32_at(&bytes, 4)? as usize;
        let section = |at: usize| {
            let start = header.checked_add(u32_at(&bytes, at)? as usize)?;
            let end = start.checked_add(u32_at(&bytes, at + 4)? as usize)?;
            bytes.get(start..end).map(|_| start..end)
        };
        let (type_section, strings) = (section(8)?, section(16)?);
        let mut btf = Self {
            bytes,
            strings,
            types: Vec::new(),
        };
        let mut at = type_section.start;
        while at < type_section.end {
            let found = btf.type_at(at)?;
            btf.types.push(u32::try_from(at).ok()?);
            let body = body_bytes(found.kind, found.count)?;
            at = found.body.checked_add(body)?;
        }
        (at == type_section.end).then_some(btf)
    }

    /// Where a member lies in a structure or union, in bytes from its start; also where it lies in an unnamed
    /// one inside. `None` if either does not exist or the member is a bit-field.
    pub fn member_offset(&self, structure: &str, member: &str) -> Option<u32> {
        self.member_offsets(&[(structure, member)])[0]
    }

    /// As [`Btf::member_offset`] for several members, in one pass over the types.
    pub fn member_offsets(&self, wanted: &[(&str, &str)]) -> Vec<Option<u32>> {
        let mut offsets = vec![None; wanted.len()];
        for &at in &self.types {
            let Some(found) = self.type_at(at as usize) else {
                continue;
            };
            if !matches!(found.kind, kind::STRUCT | kind::UNION) {
                continue;
            }
            for (offset, (structure, member)) in offsets.iter_mut().zip(wanted) {
                if offset.is_none() && self.is_named(found.name, structure) {
                    let mut budget = MAX_MEMBERS;
                    *offset = self
                        .bit_offset(found, member, 0, &mut budget)
                        .filter(|bits| bits % 8 == 0)
                        .map(|bits| bits / 8);
                }
            }
        }
        offsets
    }

    /// In bits. The budget bounds the work where unnamed types name each other many times over.
    fn bit_offset(&self, parent: Type, member: &str, depth: u32, budget: &mut u32) -> Option<u32> {
        for index in 0..parent.count {
            *budget = budget.checked_sub(1)?;
            let at = parent.body + 12 * index as usize;
            let (name, of, mut offset) = (
                u32_at(&self.bytes, at)?,
                u32_at(&self.bytes, at + 4)?,
                u32_at(&self.bytes, at + 8)?,
            );
            let mut bits = 0;
            if parent.bit_fields {
                (bits, offset) = (offset >> 24, offset & 0x00ff_ffff);
            }
            if name == 0 {
                if depth < MAX_DEPTH
                    && let Some(inner) = self.structure(of)
                    && let Some(within) = self.bit_offset(inner, member, depth + 1, budget)
                {
                    return offset.checked_add(within);
                }
            } else if self.is_named(name, member) {
                return (bits == 0).then_some(offset);
            }
        }
        None
    }

    /// The structure or union of a type id, behind any `const`, typedef and the like.
    fn structure(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let place = *self.types.get((id as usize).checked_sub(1)?)?;
            let found = self.type_at(place as usize)?;
            match found.kind {
                kind::STRUCT | kind::UNION => return Some(found),
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = found.refers_to;
                }
                _ => return None,
            }
        }
        None
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let info = u32_at(&self.bytes, at.checked_add(4)?)?;
        Some(Type {
            body: at + 12,
            name: u32_at(&self.bytes, at)?,
            kind: info >> 24 & 0x1f,
            count: info & 0xffff,
            bit_fields: info >> 31 != 0,
            refers_to: u32_at(&self.bytes, at + 8)?,
        })
    }

    fn is_named(&self, name: u32, wanted: &str) -> bool {
        let strings = &self.bytes[self.strings.clone()];
        strings
            .get(name as usize..)
            .and_then(|rest| rest.strip_prefix(wanted.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// How many bytes follow the common part of a type of this kind.
fn body_bytes(kind: u32, count: u32) -> Option<usize> {
    let count = count as usize;
    Some(match kind {
        // A pointer, a forward declaration, the modifiers, a function, a float, a type tag.
        2 | 7..=12 | 16 | 18 => 0,
        // An integer, a variable, a declaration tag.
        1 | 14 | 17 => 4,
        // An array.
        3 => 12,
        // Members of structures and unions, variables of a section, 64-bit enumerators.
        4 | 5 | 15 | 19 => 12 * count,
        // Enumerators, parameters.
        6 | 13 => 8 * count,
        _ => return None,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    Some(u32::from_le_bytes(bytes.get(at..end)?.try_into().ok()?))
}

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
