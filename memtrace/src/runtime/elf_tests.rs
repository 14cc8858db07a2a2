//! Tests of the ELF reader: files built by hand, and broken in every way chance finds.

use proptest::prelude::*;

use super::super::budget::tests::ample;
use super::*;

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|at| self.get(at..))
            .unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// One section of a file to build; its address is [`ADDRESS`] plus its place in the file.
pub(in crate::runtime) struct Part {
    pub(in crate::runtime) name: &'static str,
    pub(in crate::runtime) kind: u32,
    pub(in crate::runtime) flags: u32,
    pub(in crate::runtime) link: u32,
    pub(in crate::runtime) data: Vec<u8>,
}

/// Where the file is loaded, as a whole, in one segment.
pub(in crate::runtime) const ADDRESS: u64 = 0x40_0000;
const HEADER: usize = 64 + 56;

/// Constants, which is what most tests need.
pub(in crate::runtime) fn rodata(data: &[u8]) -> Part {
    Part {
        name: ".rodata",
        kind: elf::SHT_PROGBITS,
        flags: elf::SHF_ALLOC,
        link: 0,
        data: data.to_vec(),
    }
}

/// A 64-bit little-endian file. The first part begins at [`first`]; each at a multiple of 16.
pub(in crate::runtime) fn build(
    parts: &[Part],
    segment_flags: u32,
    with_sections: bool,
) -> Vec<u8> {
    let mut file = vec![0u8; first()];
    let mut headers = vec![0u8; 64];
    let mut names = vec![0u8];
    for part in parts {
        file.resize(file.len().next_multiple_of(16), 0);
        let place = file.len() as u64;
        file.extend(&part.data);
        let name = u32::try_from(names.len()).unwrap();
        names.extend(part.name.bytes().chain([0]));
        let address = ADDRESS + place;
        headers.extend(section(name, part, address, place));
    }
    let strings = Part {
        name: "",
        kind: elf::SHT_STRTAB,
        flags: 0,
        link: 0,
        data: names,
    };
    headers.extend(section(0, &strings, 0, file.len() as u64));
    file.extend(&strings.data);
    let table = file.len() as u64;
    let count = u16::try_from(parts.len() + 2).unwrap();
    if with_sections {
        file.extend(&headers);
    }
    let size = file.len() as u64;
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[6] = 1;
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &1u16.to_le_bytes());
    if with_sections {
        put(40, &table.to_le_bytes());
        put(58, &64u16.to_le_bytes());
        put(60, &count.to_le_bytes());
        put(62, &(count - 1).to_le_bytes());
    }
    put(64, &elf::PT_LOAD.to_le_bytes());
    put(68, &segment_flags.to_le_bytes());
    put(72, &0u64.to_le_bytes());
    put(80, &ADDRESS.to_le_bytes());
    put(96, &size.to_le_bytes());
    put(104, &size.to_le_bytes());
    file
}

/// Where the first part lies in a file that was built.
pub(in crate::runtime) fn first() -> usize {
    HEADER.next_multiple_of(16)
}

fn section(name: u32, part: &Part, address: u64, place: u64) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(name.to_le_bytes());
    header.extend(part.kind.to_le_bytes());
    header.extend(u64::from(part.flags).to_le_bytes());
    header.extend(address.to_le_bytes());
    header.extend(place.to_le_bytes());
    header.extend((part.data.len() as u64).to_le_bytes());
    header.extend(part.link.to_le_bytes());
    header.resize(64, 0);
    header
}

/// A symbol table and its names, to be the first two sections of a file.
pub(in crate::runtime) fn symbols(list: &[(&str, u16, u64)]) -> [Part; 2] {
    let mut names = vec![0u8];
    let mut data = vec![0u8; 24];
    for &(name, section, address) in list {
        data.extend(u32::try_from(names.len()).unwrap().to_le_bytes());
        data.extend([0, 0]);
        data.extend(section.to_le_bytes());
        data.extend(address.to_le_bytes());
        data.extend([0; 8]);
        names.extend(name.bytes().chain([0]));
    }
    let part = |name, kind, link, data| Part {
        name,
        kind,
        flags: 0,
        link,
        data,
    };
    [
        part(".symtab", elf::SHT_SYMTAB, 2, data),
        part(".strtab", elf::SHT_STRTAB, 0, names),
    ]
}

fn example() -> Vec<u8> {
    let [table, names] = symbols(&[
        ("imported", 0, 0x1234),
        ("prefix_wanted", 1, 0x1),
        ("wanted", 1, ADDRESS + first() as u64),
    ]);
    build(&[table, names, rodata(b"constants")], elf::PF_R, true)
}

#[test]
fn sections_segments_and_symbols_are_found() {
    let elf = Elf::parse(example(), ample()).unwrap();
    assert!(elf.is_64 && !elf.big_endian);
    let place = elf.section(".rodata").unwrap().place.clone();
    assert_eq!(elf.read(&place, 100), b"constants");
    assert_eq!(elf.read(&place, 4), b"cons");
    assert_eq!(elf.constants(), std::slice::from_ref(&place));
    assert_eq!(
        elf.read_address(ADDRESS + place.start, 5).unwrap(),
        b"const"
    );
    assert_eq!(elf.read_address(ADDRESS - 1, 5), None);
    assert_eq!(elf.symbol("wanted"), Some(ADDRESS + first() as u64));
    assert_eq!(elf.symbol("imported"), None);
    assert_eq!(elf.symbol("absent"), None);
    assert_eq!(elf.exported("wanted"), None);
}

#[test]
fn a_pointer_that_the_loader_fills_is_found_in_the_relocations() {
    let place = ADDRESS + first() as u64;
    let mut data = (place + 5).to_le_bytes().to_vec();
    data.extend([0; 24]);
    let relocations = Part {
        name: ".rela.dyn",
        kind: elf::SHT_RELA,
        flags: elf::SHF_ALLOC,
        link: 0,
        data: [place + 8, 8, 0x1234]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect(),
    };
    let elf = Elf::parse(
        build(&[rodata(&data), relocations], elf::PF_R, true),
        ample(),
    )
    .unwrap();
    assert_eq!(elf.pointer(place), Some(place + 5));
    assert_eq!(elf.pointer(place + 8), Some(0x1234));
    assert_eq!(elf.pointer(place + 16), None);
}

#[test]
fn without_sections_the_segments_that_nobody_writes_have_the_constants() {
    let file = build(&[rodata(b"constants")], elf::PF_R, false);
    let size = file.len() as u64;
    let whole = 0..size;
    assert_eq!(
        Elf::parse(file, ample()).unwrap().constants(),
        std::slice::from_ref(&whole)
    );
    let file = build(&[rodata(b"constants")], elf::PF_R | elf::PF_W, false);
    assert!(Elf::parse(file, ample()).unwrap().constants().is_empty());
}

#[test]
fn pieces_overlap_and_cover_the_whole() {
    let data: Vec<u8> = (0..3 * CHUNK + 77).map(|i| (i % 251) as u8).collect();
    let elf = Elf::parse(build(&[rodata(&data)], elf::PF_R, true), ample()).unwrap();
    let place = elf.section(".rodata").unwrap().place.clone();
    let mut seen = Vec::new();
    elf.chunks(&place, 100, |chunk| {
        let known = seen.len().min(100);
        assert_eq!(&chunk[..known], &seen[seen.len() - known..]);
        seen.extend_from_slice(&chunk[known..]);
        true
    });
    assert!(elf.budget().lacks().is_none() && seen == data);
    let beyond = place.start..place.end + (1 << 40);
    elf.chunks(&beyond, 100, |_| true);
    assert_eq!(elf.budget().lacks(), Some(Limit::Ends));
}

#[test]
fn what_is_no_elf_file_is_none() {
    assert!(Elf::parse(Vec::new(), ample()).is_none());
    assert!(Elf::parse(b"#!/bin/sh\nexec something-long-enough\n".to_vec(), ample()).is_none());
    assert!(Elf::parse(b"\x7fELF\x02\x01".to_vec(), ample()).is_none());
}

/// Does with a file all that is done with files.
fn use_it(file: Vec<u8>) {
    let size = file.len();
    let Some(elf) = Elf::parse(file, ample()) else {
        return;
    };
    for place in elf.constants() {
        elf.chunks(&place, 16, |_| true);
        assert!(elf.read(&place, 1 << 20).len() <= size);
    }
    for name in ["wanted", "x"] {
        if let Some(address) = elf.symbol(name) {
            elf.read_address(address, usize::MAX);
            elf.pointer(address);
        }
    }
    for address in [0, 1, ADDRESS, u64::MAX] {
        elf.read_address(address, 64);
    }
}

#[test]
fn headers_that_claim_everything_cost_nothing() {
    // Counts, offsets and sizes of the file header, the program header and each section header.
    let whole = example();
    for at in 16..whole.len() - 8 {
        for value in [u64::MAX, u64::MAX / 2, 1 << 32] {
            let mut file = whole.clone();
            file[at..at + 8].copy_from_slice(&value.to_le_bytes());
            use_it(file);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        use_it(bytes.clone());
        bytes.splice(..bytes.len().min(6), *b"\x7fELF\x02\x01");
        use_it(bytes.clone());
        if bytes.len() > 5 {
            bytes[4] = 1;
        }
        use_it(bytes);
    }

    #[test]
    fn any_change_of_a_real_file_is_survived(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut file = example();
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
        }
        use_it(file.clone());
        file.truncate(cut.index(file.len()));
        use_it(file);
    }
}
