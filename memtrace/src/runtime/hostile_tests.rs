//! Files made to keep a look busy: whatever they claim, no more of them is read or looked at than the budget has.

use std::cell::Cell;
use std::io;

use object::elf;
use proptest::prelude::*;

use super::budget::tests::counted;
use super::budget::{Budget, Limit};
use super::elf::{CHUNK, Elf, ReadAt};
use super::others::MimallocOptions;
use super::{Depth, Kind, go, jemalloc, others, strings};

const MIB: u64 = 1 << 20;
/// What a file may use of the budgets below: half.
const BYTES: u64 = 16 * MIB;
const RECORDS: u64 = 100_000;
/// Where the headers end and each huge table lies.
const TABLES: u64 = MIB;
/// As the tables of a large program.
const HUGE: u64 = 64 * MIB;

/// A file of any size, which counts what is read of it.
struct Counted {
    pieces: Vec<(u64, Vec<u8>)>,
    /// What is everywhere else, over and over.
    fill: &'static [u8],
    size: u64,
    /// The most that one read gives.
    step: usize,
    bytes: Cell<u64>,
    reads: Cell<u64>,
}

impl ReadAt for &Counted {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap();
        let length = buffer.len().min(left).min(self.step);
        let buffer = &mut buffer[..length];
        match self.fill {
            [byte] => buffer.fill(*byte),
            fill => {
                let from = offset as usize % fill.len();
                let over = fill.iter().cycle().skip(from);
                buffer
                    .iter_mut()
                    .zip(over)
                    .for_each(|(to, from)| *to = *from);
            }
        }
        for (start, piece) in &self.pieces {
            let from = offset.max(*start);
            let to = (offset + length as u64).min(start + piece.len() as u64);
            if from < to {
                let there = (from - offset) as usize..(to - offset) as usize;
                let here = (from - start) as usize..(to - start) as usize;
                buffer[there].copy_from_slice(&piece[here]);
            }
        }
        self.bytes.set(self.bytes.get() + length as u64);
        self.reads.set(self.reads.get() + 1);
        Ok(length)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }
}

/// A section header: all of it that matters to us.
#[derive(Clone, Copy, Default)]
struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    offset: u64,
    size: u64,
    link: u32,
    entry: u64,
}

#[derive(Clone, Copy)]
struct Segment {
    flags: u32,
    offset: u64,
    address: u64,
    size: u64,
}

const NAMES: &[u8] = b"\0.rodata\0.go.buildinfo\0.gopclntab\0.note.go.buildid\0";
const RODATA: u32 = 1;
const BUILD_INFO: u32 = 9;
const LINES: u32 = 23;

/// A file with these headers at its begin; the names of sections are the last section.
fn file(sections: &[Section], segments: &[Segment], fill: &'static [u8]) -> Counted {
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(64, 0);
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    let table = 64 + 56 * segments.len() as u64;
    let names = Section {
        kind: elf::SHT_STRTAB,
        offset: 8,
        size: NAMES.len() as u64,
        ..Section::default()
    };
    let count = sections.len() as u16 + 1;
    put(16, &2u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(40, &table.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &(segments.len() as u16).to_le_bytes());
    put(58, &64u16.to_le_bytes());
    put(60, &count.to_le_bytes());
    put(62, &(count - 1).to_le_bytes());
    for segment in segments {
        head.extend(elf::PT_LOAD.to_le_bytes());
        head.extend(segment.flags.to_le_bytes());
        for word in [
            segment.offset,
            segment.address,
            0,
            segment.size,
            segment.size,
            0,
        ] {
            head.extend(word.to_le_bytes());
        }
    }
    let names_at = head.len() as u64 + 64 * u64::from(count);
    let names = Section {
        offset: names_at,
        ..names
    };
    for one in sections.iter().chain([&names]) {
        head.extend(one.name.to_le_bytes());
        head.extend(one.kind.to_le_bytes());
        for word in [one.flags, 0, one.offset, one.size] {
            head.extend(word.to_le_bytes());
        }
        head.extend(one.link.to_le_bytes());
        head.extend([0; 4]);
        for word in [1, one.entry] {
            head.extend(word.to_le_bytes());
        }
    }
    head.extend(NAMES);
    assert!(head.len() as u64 <= TABLES || segments.len() > 10_000);
    Counted {
        pieces: vec![(0, head)],
        fill,
        size: TABLES + 2 * HUGE,
        step: usize::MAX,
        bytes: Cell::new(0),
        reads: Cell::new(0),
    }
}

/// A huge table of names, a first section that is none, and as many sections as fit of one kind.
fn tables(kind: u32, name: u32) -> Vec<Section> {
    let huge = Section {
        name,
        kind,
        flags: elf::SHF_ALLOC.into(),
        offset: TABLES,
        size: HUGE,
        link: 1,
        entry: 24,
    };
    let names = Section {
        kind: elf::SHT_STRTAB,
        offset: TABLES + HUGE,
        ..huge
    };
    let mut all = vec![Section::default(), names];
    all.resize(4000, huge);
    all
}

/// Puts a symbol's name at the end of the huge table of names.
fn with_name(mut file: Counted, name: &str) -> Counted {
    let text = format!("\0{name}\0").into_bytes();
    let at = TABLES + 2 * HUGE - text.len() as u64;
    file.pieces.push((at, text));
    file
}

/// All that is ever looked for in a file; why it may not be all.
fn look<F: ReadAt>(file: F, budget: &Budget<'_>) -> Option<Limit> {
    let work = || {
        let elf = Elf::parse(file, budget)?;
        let _ = go::BuildInfo::read(&elf);
        let _ = elf.exported("node_module_register");
        strings::marks(&elf);
        jemalloc::version(&elf);
        for prefix in ["", "_rjem_"] {
            jemalloc::built_in(&elf, prefix);
        }
        jemalloc::built_in_string(&elf);
        MimallocOptions::read(&elf);
        others::is_musl(&elf);
        for kind in [
            Kind::Tcmalloc,
            Kind::Glibc,
            Kind::Musl,
            Kind::Jvm,
            Kind::Node,
            Kind::Python,
        ] {
            others::version(kind, "/lib/libpython3.9.so.1.0", &elf);
        }
        others::contains_musl(&elf).then_some(())
    };
    budget.part(work).1
}

/// Looks with the budget of these tests, and holds the file's own count against it.
#[track_caller]
fn bounded(file: &Counted) -> Option<Limit> {
    let lacks = look(file, &counted(2 * BYTES, 2 * RECORDS));
    assert!(file.bytes.get() <= BYTES, "{} bytes", file.bytes.get());
    assert!(file.reads.get() <= RECORDS, "{} reads", file.reads.get());
    lacks
}

#[test]
fn thousands_of_huge_tables_at_one_place_cost_no_more_than_the_budget() {
    for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
        let file = with_name(
            file(&tables(kind, LINES), &[], b"\0"),
            "runtime.buildVersion",
        );
        assert_eq!(bounded(&file), Some(Limit::Bytes(BYTES)));
    }
    let constants = file(&tables(elf::SHT_PROGBITS, RODATA), &[], b"\0");
    assert_eq!(bounded(&constants), Some(Limit::Bytes(BYTES)));
    // Nothing but hits.
    let hits = file(&tables(elf::SHT_PROGBITS, RODATA), &[], b"malloc");
    assert_eq!(bounded(&hits), Some(Limit::Records(RECORDS)));
    assert!(hits.bytes.get() <= 6 * RECORDS + 2 * CHUNK as u64);
}

#[test]
fn the_entries_of_a_table_are_counted_before_they_are_looked_at() {
    let mut sections = tables(elf::SHT_DYNSYM, LINES);
    // A small table of names, with the name that is looked for.
    sections[1].size = 64;
    let mut file = file(&sections, &[], b"\0");
    file.pieces
        .push((TABLES + HUGE, b"\0runtime.buildVersion\0".to_vec()));
    let records = 2 * 50_000;
    assert_eq!(
        look(&file, &counted(u64::MAX, records)),
        Some(Limit::Records(records / 2))
    );
    assert!(
        file.bytes.get() <= records / 2 * 24 + MIB,
        "{}",
        file.bytes.get()
    );
}

#[test]
fn the_last_symbol_of_a_browsers_table_is_within_the_budget() {
    const TABLE: u64 = 100 * MIB;
    let section = |kind, offset, link| Section {
        kind,
        offset,
        size: TABLE,
        link,
        ..Section::default()
    };
    let sections = [
        Section::default(),
        section(elf::SHT_STRTAB, TABLES, 0),
        section(elf::SHT_SYMTAB, TABLES + TABLE, 1),
    ];
    let mut file = file(&sections, &[], b"\0");
    file.size = TABLES + 2 * TABLE;
    let name = TABLE as u32 - 64;
    file.pieces
        .push((TABLES + u64::from(name), b"wanted\0".to_vec()));
    let mut symbol = name.to_le_bytes().to_vec();
    symbol.extend([0, 0, 1, 0]);
    symbol.extend(0x1234u64.to_le_bytes());
    let last = TABLE / 24 * 24 - 24;
    file.pieces.push((TABLES + TABLE + last, symbol));
    let amount = Depth::Thorough.amount();
    let budget = counted(amount.bytes, amount.records);
    // Two look-ups in one file, for which it has half of the budget.
    let times = || {
        let elf = Elf::parse(&file, &budget)?;
        (0..2)
            .map(|_| elf.symbol("wanted"))
            .collect::<Option<Vec<_>>>()
    };
    assert_eq!(budget.part(times), (Some(vec![0x1234; 2]), None));
}

#[test]
fn huge_tables_of_relocations_cost_no_more_than_the_budget() {
    let mut sections = tables(elf::SHT_RELA, 0);
    sections[1].size = 64;
    // The symbol's own table has one entry: the first name, defined in section 1, at an address that holds 0.
    sections[2] = Section {
        kind: elf::SHT_SYMTAB,
        offset: TABLES + HUGE + 64,
        size: 24,
        link: 1,
        ..Section::default()
    };
    let segment = Segment {
        flags: elf::PF_R,
        offset: TABLES,
        address: 0x1000,
        size: 64,
    };
    let mut file = file(&sections, &[segment], b"\0");
    let mut symbol = 1u32.to_le_bytes().to_vec();
    symbol.extend([0, 0, 1, 0]);
    symbol.extend(0x1000u64.to_le_bytes());
    symbol.extend([0; 8]);
    file.pieces
        .push((TABLES + HUGE, b"\0malloc_conf\0".to_vec()));
    file.pieces.push((TABLES + HUGE + 64, symbol));
    let records = Some(Limit::Records(RECORDS));
    assert_eq!(bounded(&file), records);
    assert!(
        file.bytes.get() <= RECORDS * 24 + MIB,
        "{}",
        file.bytes.get()
    );
}

#[test]
fn a_name_that_stands_everywhere_is_not_known_to_be_undefined() {
    let mut sections = tables(elf::SHT_DYNSYM, 0);
    sections.truncate(3);
    sections[1].size = MIB;
    sections[2].size = 24;
    let file = file(&sections, &[], b"node_module_register\0");
    assert_eq!(bounded(&file), Some(Limit::Names));
}

#[test]
fn names_of_sections_without_an_end_cost_no_more_than_the_budget() {
    let mut sections = tables(elf::SHT_PROGBITS, 0);
    for (at, section) in sections.iter_mut().enumerate() {
        section.name = 1 + at as u32;
        section.size = 0;
    }
    let mut file = file(&sections, &[], b"A");
    // The last section has the names: all of the file but its headers.
    let head = &mut file.pieces[0].1;
    let at = head.len() - NAMES.len() - 64;
    head[at + 24..at + 32].copy_from_slice(&TABLES.to_le_bytes());
    head[at + 32..at + 40].copy_from_slice(&HUGE.to_le_bytes());
    bounded(&file);
}

#[test]
fn more_sections_or_segments_than_are_looked_at_are_said_to_be() {
    let mut sections = tables(elf::SHT_PROGBITS, 0);
    sections.resize(5000, Section::default());
    for section in &mut sections {
        section.size = 0;
    }
    assert_eq!(bounded(&file(&sections, &[], b"\0")), Some(Limit::Parts));
    let segment = Segment {
        flags: elf::PF_R | elf::PF_W,
        offset: 0,
        address: 0,
        size: 0,
    };
    let many = file(&[], &[segment; 5000], b"\0");
    assert_eq!(bounded(&many), Some(Limit::Parts));
    // By the fields for more than 65,535: sh_size and sh_info of the first section.
    for (count_at, field) in [(60, 32), (56, 44)] {
        for count in [200_000u64, u64::from(u32::MAX), u64::MAX] {
            let mut file = file(&tables(elf::SHT_PROGBITS, 0)[..1], &[], b"\0");
            let head = &mut file.pieces[0].1;
            let none = if count_at == 60 { [0, 0] } else { [0xff, 0xff] };
            head[count_at..count_at + 2].copy_from_slice(&none);
            let width = if field == 32 { 8 } else { 4 };
            head[64 + field..64 + field + width].copy_from_slice(&count.to_le_bytes()[..width]);
            bounded(&file);
        }
    }
}

#[test]
fn segments_that_lie_over_each_other_cost_no_more_than_the_budget() {
    for (flags, sections) in [(elf::PF_R, &[][..]), (elf::PF_R | elf::PF_W, &[])] {
        let segment = |offset, address, size| Segment {
            flags,
            offset,
            address,
            size,
        };
        let many = vec![segment(TABLES, 0, HUGE); 4096];
        let file = file(sections, &many, b"\0");
        assert_eq!(bounded(&file), Some(Limit::Bytes(BYTES)));
        let wild = [
            segment(u64::MAX, 0, u64::MAX),
            segment(u64::MAX - 8, u64::MAX, 8),
            segment(0, u64::MAX, u64::MAX),
            segment(u64::MAX / 2, 1, u64::MAX / 2),
        ];
        bounded(&self::file(sections, &wild, b"\0"));
    }
}

#[test]
fn wild_fields_of_sections_cost_no_more_than_the_budget() {
    let values = [0, 1, 23, 1 << 31, 1 << 63, u64::MAX - 1, u64::MAX];
    for kind in [
        elf::SHT_DYNSYM,
        elf::SHT_SYMTAB,
        elf::SHT_RELA,
        elf::SHT_NOTE,
        elf::SHT_PROGBITS,
    ] {
        for value in values {
            let compressed = u64::from(elf::SHF_ALLOC | elf::SHF_COMPRESSED);
            let wild: [fn(&mut Section, u64); 5] = [
                |section, value| section.entry = value,
                |section, value| section.link = value as u32,
                |section, value| section.size = value,
                |section, value| section.offset = value,
                |section, value| section.name = value as u32,
            ];
            for change in wild {
                let mut sections = tables(kind, RODATA);
                sections.truncate(6);
                for section in &mut sections[2..] {
                    section.flags = compressed;
                    change(section, value);
                }
                bounded(&with_name(file(&sections, &[], b"\0"), "malloc_conf"));
            }
        }
    }
}

#[test]
fn a_section_that_cannot_be_does_not_shift_those_behind_it() {
    let mut sections = tables(elf::SHT_DYNSYM, 0);
    sections.truncate(4);
    // The names are section 2; section 1 cannot be.
    sections[2] = Section {
        size: 64,
        ..sections[1]
    };
    sections[1].offset = u64::MAX;
    sections[3].size = 24;
    sections[3].link = 2;
    let mut file = file(&sections, &[], b"\0");
    let mut symbol = 1u32.to_le_bytes().to_vec();
    symbol.extend([0, 0, 1, 0]);
    symbol.extend(0x1234u64.to_le_bytes());
    file.pieces.push((TABLES, symbol));
    file.pieces.push((TABLES + HUGE, b"\0wanted\0".to_vec()));
    let budget = counted(BYTES, RECORDS);
    let elf = Elf::parse(&file, &budget).unwrap();
    assert_eq!(elf.exported("wanted"), Some(0x1234));
    assert_eq!(budget.lacks(), None);
}

#[test]
fn build_info_of_go_that_points_to_itself_is_read_once() {
    let section = Section {
        name: BUILD_INFO,
        kind: elf::SHT_PROGBITS,
        offset: TABLES,
        size: HUGE,
        ..Section::default()
    };
    let segment = Segment {
        flags: elf::PF_R | elf::PF_W,
        offset: TABLES,
        address: TABLES,
        size: HUGE,
    };
    for length in [TABLES, 4 * MIB, u64::MAX] {
        let mut file = file(&[Section::default(), section], &[segment], b"\0");
        let mut record = b"\xff Go buildinf:\x08\x00".to_vec();
        // Both strings have their address and length right here, where they point to.
        record.extend((TABLES + 16).to_le_bytes());
        record.extend((TABLES + 16).to_le_bytes());
        record.extend(length.to_le_bytes());
        file.pieces.push((TABLES, record));
        assert_eq!(bounded(&file), None);
        // The record, and its strings of 4 MiB at the most.
        assert!(file.bytes.get() <= 9 * MIB, "{}", file.bytes.get());
    }
    // No section leads to it, and no segment has it.
    let many = vec![segment; 4096];
    assert_eq!(bounded(&file(&[], &many, b"\0")), Some(Limit::Bytes(BYTES)));
}

#[test]
fn a_file_system_that_gives_a_byte_at_a_time_is_not_read_for_ever() {
    let mut file = file(&tables(elf::SHT_PROGBITS, RODATA), &[], b"\0");
    file.step = 1;
    assert_eq!(bounded(&file), Some(Limit::Records(RECORDS)));
}

/// A small program of this machine.
fn real() -> Option<Vec<u8>> {
    let file = std::fs::read("/bin/true").ok()?;
    (file.starts_with(b"\x7fELF") && (file.len() as u64) < MIB).then_some(file)
}

/// Where a change matters: the headers of the file, of its segments and of its sections, or anywhere.
fn place(file: &[u8], part: u8, at: prop::sample::Index) -> usize {
    let sections = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    let sections = sections.min(file.len() - 1);
    match part {
        0 => at.index(64),
        1 => 64 + at.index(56 * 14),
        2 => sections + at.index(file.len() - sections),
        _ => at.index(file.len()),
    }
}

proptest! {
    #[test]
    fn no_change_of_a_real_file_makes_more_work_than_the_budget(
        changes in prop::collection::vec(
            (0u8..4, any::<prop::sample::Index>(), any::<u64>(), 0u32..64, 1usize..9),
            1..12,
        ),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let Some(mut bytes) = real() else {
            crate::proc::not_run("/bin/true is no small ELF file", "run it on a usual system");
            return Ok(());
        };
        for (part, at, value, shift, width) in changes {
            let at = place(&bytes, part, at).min(bytes.len() - 8);
            bytes[at..at + width].copy_from_slice(&(value >> shift).to_le_bytes()[..width]);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let size = bytes.len() as u64;
        let file = Counted {
            pieces: vec![(0, bytes)],
            fill: b"\0",
            size,
            step: usize::MAX,
            bytes: Cell::new(0),
            reads: Cell::new(0),
        };
        let few = counted(2 * 256 * 1024, 2 * 2000);
        let lacks = look(&file, &few);
        prop_assert!(file.bytes.get() <= 256 * 1024);
        prop_assert!(file.reads.get() <= 2000);
        if let Some(Limit::Bytes(most)) = lacks {
            prop_assert_eq!(most, 256 * 1024);
        }
    }
}
