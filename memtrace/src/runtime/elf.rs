//! Reads what is wanted from an ELF file of another process, piece by piece and within a budget.
//!
//! Whatever the file claims, all bytes are read in `Metered::fill` and all entries of tables counted before they
//! are looked at. Where the budget ends, nothing more is found, and the budget knows that and why.
//! The file is not mapped: whoever can truncate it could kill us with SIGBUS.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use object::elf::{FileHeader32, FileHeader64};
use object::read::ReadRef;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, elf};

use super::budget::{Budget, Limit};

/// Headers, and the names of sections: some kB in any real file.
const MAX_HEADERS: u64 = 8 << 20;
/// Sections and segments that are looked at. A file built with -ffunction-sections keeps none of its sections when linked.
const MAX_PARTS: usize = 4096;
const MAX_NAME: usize = 64;
/// A linker may let a name be the end of another's string; real tables have a few such places.
const MAX_PLACES: usize = 64;
/// How much is read at once.
pub(super) const CHUNK: usize = 256 * 1024;

/// Something with bytes at offsets: a file, or memory in tests.
pub(super) trait ReadAt {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn size(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

pub(super) struct Section {
    pub(super) name: String,
    pub(super) kind: u32,
    pub(super) flags: u64,
    /// The section that this one refers to: a symbol table's strings.
    link: u32,
    /// Where it lies in the file; empty for what takes no place there.
    pub(super) place: Range<u64>,
}

pub(super) struct Segment {
    pub(super) flags: u32,
    pub(super) address: u64,
    pub(super) place: Range<u64>,
}

/// A file whose bytes are taken off a budget.
struct Metered<'a, F> {
    file: F,
    budget: &'a Budget<'a>,
}

impl<F: ReadAt> Metered<'_, F> {
    /// Fills the buffer as far as the file goes, and the budget.
    fn fill(&self, buffer: &mut [u8], offset: u64) -> usize {
        if !self.budget.take_bytes(buffer.len()) {
            return 0;
        }
        let mut filled = 0;
        while filled < buffer.len() {
            let Some(at) = offset.checked_add(filled as u64) else {
                break;
            };
            // A file system may give one byte at a time, and take its time.
            let again = filled > 0;
            if !self.budget.take_records(1) || again && !self.budget.goes_on() {
                break;
            }
            match self.file.read_at(&mut buffer[filled..], at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        filled
    }
}

/// The parts of an ELF file.
pub(super) struct Elf<'a, F> {
    file: Metered<'a, F>,
    pub(super) size: u64,
    pub(super) big_endian: bool,
    pub(super) is_64: bool,
    pub(super) sections: Vec<Section>,
    /// Those that are loaded.
    pub(super) segments: Vec<Segment>,
}

impl<'a, F: ReadAt> Elf<'a, F> {
    /// Reads the headers; `None` where they are no ELF headers, or broken ones.
    pub(super) fn parse(file: F, budget: &'a Budget<'a>) -> Option<Self> {
        let size = file.size().ok()?;
        let file = Metered { file, budget };
        let mut ident = [0; 16];
        if file.fill(&mut ident, 0) < ident.len() {
            return None;
        }
        let is_64 = ident[4] == elf::ELFCLASS64;
        let mut found = Self {
            file,
            size,
            big_endian: ident[5] == elf::ELFDATA2MSB,
            is_64,
            sections: Vec::new(),
            segments: Vec::new(),
        };
        let headers = Headers::new(&found.file, size);
        let (sections, segments) = if is_64 {
            parts::<FileHeader64<Endianness>, F>(&headers)?
        } else {
            parts::<FileHeader32<Endianness>, F>(&headers)?
        };
        (found.sections, found.segments) = (sections, segments);
        Some(found)
    }

    pub(super) fn budget(&self) -> &'a Budget<'a> {
        self.file.budget
    }

    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Where constants are: the read-only sections that are no code; without sections, the segments that nobody writes.
    pub(super) fn constants(&self) -> Vec<Range<u64>> {
        let wanted = |section: &&Section| {
            section.kind == elf::SHT_PROGBITS
                && section.flags & u64::from(elf::SHF_ALLOC) != 0
                && section.flags & u64::from(elf::SHF_WRITE | elf::SHF_EXECINSTR) == 0
                && section.name.starts_with(".rodata")
        };
        let places: Vec<_> = self
            .sections
            .iter()
            .filter(wanted)
            .map(|section| section.place.clone())
            .collect();
        if !places.is_empty() {
            return places;
        }
        self.segments
            .iter()
            .filter(|segment| segment.flags & elf::PF_W == 0)
            .map(|segment| segment.place.clone())
            .collect()
    }

    /// Up to `max` bytes of a place in the file, fewer where it ends.
    pub(super) fn read(&self, place: &Range<u64>, max: usize) -> Vec<u8> {
        let length = place.end.min(self.size).saturating_sub(place.start);
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(max);
        let mut bytes = vec![0; length];
        let read = self.file.fill(&mut bytes, place.start);
        bytes.truncate(read);
        bytes
    }

    /// What the file holds for an address, up to `max` bytes, within one segment.
    pub(super) fn read_address(&self, address: u64, max: usize) -> Option<Vec<u8>> {
        let segment = self.segments.iter().find(|segment| {
            address
                .checked_sub(segment.address)
                .is_some_and(|into| into < segment.place.end - segment.place.start)
        })?;
        let start = segment.place.start + (address - segment.address);
        Some(self.read(&(start..segment.place.end), max))
    }

    /// A number of the file's own width.
    pub(super) fn word(&self, bytes: &[u8]) -> Option<u64> {
        if self.is_64 {
            self.number(bytes.get(..8)?)
        } else {
            self.number(bytes.get(..4)?)
        }
    }

    fn number(&self, bytes: &[u8]) -> Option<u64> {
        Some(match *bytes {
            [a, b, c, d] if self.big_endian => u32::from_be_bytes([a, b, c, d]).into(),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
            _ if self.big_endian => u64::from_be_bytes(bytes.try_into().ok()?),
            _ => u64::from_le_bytes(bytes.try_into().ok()?),
        })
    }

    /// Calls `each` with pieces of a place, each beginning with the last `overlap` bytes of the one before;
    /// `each` says whether to go on. The budget knows whether the place could be read to its end.
    pub(super) fn chunks(
        &self,
        place: &Range<u64>,
        overlap: usize,
        mut each: impl FnMut(&[u8]) -> bool,
    ) {
        let end = place.end.min(self.size);
        if end < place.end {
            self.budget().miss(Limit::Ends);
        }
        let mut at = place.start;
        let mut buffer = Vec::new();
        let mut kept = 0;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            buffer.resize(kept + wanted, 0);
            let read = self.file.fill(&mut buffer[kept..], at);
            let filled = kept + read;
            if read > 0 && !each(&buffer[..filled]) {
                return;
            }
            if read < wanted {
                self.budget().miss(Limit::Ends);
                return;
            }
            at += read as u64;
            kept = filled.min(overlap);
            buffer.copy_within(filled - kept..filled, 0);
        }
    }

    /// The address of a symbol that is defined here. Symbol tables can be huge, so that they are
    /// read in pieces: the names for this name, then the symbols for its place.
    pub(super) fn symbol(&self, name: &str) -> Option<u64> {
        [elf::SHT_SYMTAB, elf::SHT_DYNSYM]
            .into_iter()
            .flat_map(|kind| self.sections.iter().filter(move |table| table.kind == kind))
            .find_map(|table| self.symbol_of(table, name))
    }

    /// As [`Elf::symbol`], of those that others may use only: a much smaller table, which strip leaves.
    pub(super) fn exported(&self, name: &str) -> Option<u64> {
        self.sections
            .iter()
            .filter(|table| table.kind == elf::SHT_DYNSYM)
            .find_map(|table| self.symbol_of(table, name))
    }

    /// Where a pointer at an address points to. In a position-independent file it may be 0, and
    /// what the loader will add to it stands in the relocations.
    pub(super) fn pointer(&self, address: u64) -> Option<u64> {
        match self.word(&self.read_address(address, 8)?)? {
            0 => self.addend(address),
            there => Some(there),
        }
    }

    /// What a relocation without a symbol puts at an address.
    fn addend(&self, address: u64) -> Option<u64> {
        if !self.is_64 {
            return None;
        }
        let tables = self
            .sections
            .iter()
            .filter(|section| section.kind == elf::SHT_RELA);
        // Elf64_Rela: r_offset, r_info with the symbol in its upper half, r_addend.
        tables.into_iter().find_map(|table| {
            self.entries(&table.place, 24, |entry| {
                let here = self.number(entry.get(..8)?)? == address;
                let without_symbol = self.number(entry.get(8..16)?)? >> 32 == 0;
                (here && without_symbol).then(|| self.number(entry.get(16..24)?))?
            })
        })
    }

    /// The first answer for an entry of a table.
    fn entries<T>(
        &self,
        place: &Range<u64>,
        size: usize,
        mut each: impl FnMut(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let mut found = None;
        let mut rest: Vec<u8> = Vec::new();
        self.chunks(place, 0, |chunk| {
            rest.extend_from_slice(chunk);
            let whole = rest.len() / size * size;
            if !self.budget().take_records(whole / size) {
                return false;
            }
            found = rest[..whole].chunks_exact(size).find_map(&mut each);
            rest.drain(..whole);
            found.is_none()
        });
        found
    }

    fn symbol_of(&self, table: &Section, name: &str) -> Option<u64> {
        let names = &self.sections.get(table.link as usize)?.place;
        if !self.budget().take_records(1) {
            return None;
        }
        let mut needle = name.as_bytes().to_vec();
        needle.push(0);
        let finder = memchr::memmem::Finder::new(&needle);
        let overlap = needle.len() - 1;
        let mut offsets: Vec<u64> = Vec::new();
        let mut chunk_at = 0u64;
        self.chunks(names, overlap, |chunk| {
            let places = finder.find_iter(chunk).map(|at| chunk_at + at as u64);
            offsets.extend(places.take(MAX_PLACES + 1 - offsets.len()));
            chunk_at += (chunk.len() - overlap.min(chunk.len())) as u64;
            offsets.len() <= MAX_PLACES
        });
        if offsets.len() > MAX_PLACES {
            self.budget().miss(Limit::Names);
        }
        if offsets.is_empty() {
            return None;
        }
        let entry = if self.is_64 { 24 } else { 16 };
        self.entries(&table.place, entry, |symbol| self.defined(symbol, &offsets))
    }

    /// The address of a symbol table's entry, if its name is one of those and it is defined here.
    fn defined(&self, symbol: &[u8], names: &[u64]) -> Option<u64> {
        let name = self.number(symbol.get(..4)?)?;
        // In the order in which they were found.
        names.binary_search(&name).ok()?;
        // Elf32_Sym has st_value at 4 and st_shndx at 14, Elf64_Sym at 8 and 6.
        let (section, address) = if self.is_64 { (6, 8) } else { (14, 4) };
        let defined = symbol.get(section..section + 2)? != [0, 0];
        let address = self.word(symbol.get(address..)?)?;
        (defined && address != 0).then_some(address)
    }
}

fn parts<H, F>(headers: &Headers<'_, F>) -> Option<(Vec<Section>, Vec<Segment>)>
where
    H: FileHeader<Endian = Endianness>,
    F: ReadAt,
{
    let header = H::parse(headers).ok()?;
    let endian = header.endian().ok()?;
    // Without one of the two the other may still do.
    let segments = header.program_headers(endian, headers).unwrap_or_default();
    let loaded = |segment: &&H::ProgramHeader| segment.p_type(endian) == elf::PT_LOAD;
    if !headers.keeps(segments.len(), segments.iter().filter(loaded).count()) {
        return None;
    }
    let segments = segments
        .iter()
        .filter(loaded)
        .take(MAX_PARTS)
        .filter_map(|segment| {
            let start = segment.p_offset(endian).into();
            Some(Segment {
                flags: segment.p_flags(endian),
                address: segment.p_vaddr(endian).into(),
                place: start..start.checked_add(segment.p_filesz(endian).into())?,
            })
        })
        .collect();
    let Ok(table) = header.sections(endian, headers) else {
        return Some((Vec::new(), segments));
    };
    if !headers.keeps(table.len(), table.len()) {
        return None;
    }
    let sections = table
        .iter()
        .take(MAX_PARTS)
        .map(|section| {
            let name = table.section_name(endian, section).unwrap_or_default();
            let name = &name[..name.len().min(MAX_NAME)];
            let start: u64 = section.sh_offset(endian).into();
            let size = match section.sh_type(endian) {
                elf::SHT_NOBITS => 0,
                _ => section.sh_size(endian).into(),
            };
            Section {
                name: String::from_utf8_lossy(name).into_owned(),
                kind: section.sh_type(endian),
                flags: section.sh_flags(endian).into(),
                link: section.sh_link(endian),
                // One that cannot be keeps its number: others refer to them by it.
                place: start.checked_add(size).map_or(0..0, |end| start..end),
            }
        })
        .collect();
    Some((sections, segments))
}

/// The headers' bytes for the ELF crate, with a bound on what its requests add up to.
struct Headers<'a, F: ReadAt> {
    cache: object::read::ReadCache<Cursor<'a, F>>,
    left: std::cell::Cell<u64>,
    budget: &'a Budget<'a>,
}

impl<'a, F: ReadAt> Headers<'a, F> {
    fn new(file: &'a Metered<'a, F>, size: u64) -> Self {
        Self {
            cache: object::read::ReadCache::new(Cursor { file, size, at: 0 }),
            left: MAX_HEADERS.into(),
            budget: file.budget,
        }
    }

    fn take(&self, size: u64) -> Result<(), ()> {
        let Some(left) = self.left.get().checked_sub(size) else {
            self.budget.miss(Limit::Parts);
            return Err(());
        };
        self.left.set(left);
        Ok(())
    }

    /// Takes as many records; false if they must not be looked at. Of those that are wanted some are kept only.
    fn keeps(&self, records: usize, wanted: usize) -> bool {
        if wanted > MAX_PARTS {
            self.budget.miss(Limit::Parts);
        }
        self.budget.take_records(records)
    }
}

impl<'a, F: ReadAt> ReadRef<'a> for &'a Headers<'_, F> {
    fn len(self) -> Result<u64, ()> {
        (&self.cache).len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.take(size)?;
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        // A name; the cache itself stops after 4096 bytes.
        self.take(256)?;
        self.cache.read_bytes_at_until(range, delimiter)
    }
}

struct Cursor<'a, F> {
    file: &'a Metered<'a, F>,
    size: u64,
    at: u64,
}

impl<F: ReadAt> object::read::ReadCacheOps for Cursor<'_, F> {
    fn len(&mut self) -> Result<u64, ()> {
        Ok(self.size)
    }

    fn seek(&mut self, at: u64) -> Result<u64, ()> {
        self.at = at;
        Ok(at)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ()> {
        let read = self.file.fill(buffer, self.at);
        self.at += read as u64;
        Ok(read)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ()> {
        let read = self.read(buffer)?;
        if read < buffer.len() {
            return Err(());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "elf_tests.rs"]
pub(super) mod tests;
