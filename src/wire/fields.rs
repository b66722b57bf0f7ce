//! Header and trailer fields: one byte block and the ranges in it.
//!
//! Names are kept in lower case, so that comparing is comparing bytes, as HTTP/2 has it. The block
//! holds each field as a line of HTTP/1, so that neighbours are written by one copy. It is reused:
//! `clear` keeps its memory, and copying into a used one allocates nothing.

/// A list of fields, in the order in which they came.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Fields {
    block: Vec<u8>,
    list: Vec<Field>,
}

/// Where its name, its value and its line's end begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Field {
    name: u32,
    value: u32,
    end: u32,
}

const BETWEEN: &[u8] = b": ";
const END: &[u8] = b"\r\n";

impl Fields {
    /// Forgets all fields, keeps the memory.
    pub fn clear(&mut self) {
        self.block.clear();
        self.list.clear();
    }

    /// Adds a field. The name is lowered; the value is taken as it is, without outer white space.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let value = value.trim_ascii();
        let at = self.block.len();
        self.block.reserve(name.len() + BETWEEN.len() + value.len() + END.len());
        self.block.extend_from_slice(name);
        lower(&mut self.block[at..]);
        self.block.extend_from_slice(BETWEEN);
        let middle = self.block.len();
        self.block.extend_from_slice(value);
        let end = self.block.len();
        self.block.extend_from_slice(END);
        self.list.push(Field { name: place(at), value: place(middle), end: place(end) });
    }

    /// Keeps the fields for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let block = &self.block;
        self.list.retain(|it| keep(it.name(block), it.value(block)));
    }

    /// Removes every field of this (lower-case) name.
    pub fn remove(&mut self, name: &[u8]) {
        self.retain(|it, _| it != name);
    }

    /// Replaces every field of this (lower-case) name by one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.push(name, value);
    }

    /// The first value of a (lower-case) name.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(it, _)| *it == name).map(|(_, value)| value)
    }

    /// All values of a (lower-case) name.
    pub fn all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.iter().filter(move |(it, _)| *it == name).map(|(_, value)| value)
    }

    /// All fields: lower-case name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|it| (it.name(&self.block), it.value(&self.block)))
    }

    /// All fields as whole lines of HTTP/1; neighbours in one piece.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.list.iter().peekable();
        std::iter::from_fn(move || {
            let first = rest.next()?;
            let mut end = first.line_end();
            while let Some(next) = rest.next_if(|it| it.name as usize == end) {
                end = next.line_end();
            }
            Some(&self.block[first.name as usize..end])
        })
    }

    /// Bytes of memory they hold.
    pub fn memory(&self) -> usize {
        self.block.capacity() + self.list.capacity() * size_of::<Field>()
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Clone for Fields {
    fn clone(&self) -> Self {
        Self { block: self.block.clone(), list: self.list.clone() }
    }

    fn clone_from(&mut self, source: &Self) {
        self.block.clone_from(&source.block);
        self.list.clone_from(&source.list);
    }
}

impl Field {
    fn name(self, block: &[u8]) -> &[u8] {
        &block[self.name as usize..self.value as usize - BETWEEN.len()]
    }

    fn value(self, block: &[u8]) -> &[u8] {
        &block[self.value as usize..self.end as usize]
    }

    fn line_end(self) -> usize {
        self.end as usize + END.len()
    }
}

/// Lowers eight letters at a time, or four: names are too short for wider steps. The last step
/// goes back over letters that are low already, rather than that each is looked at alone.
fn lower(name: &mut [u8]) {
    let length = name.len();
    if length >= 8 {
        name.chunks_exact_mut(8).for_each(lower_some::<8>);
        lower_some::<8>(&mut name[length - 8..]);
    } else if length >= 4 {
        lower_some::<4>(&mut name[..4]);
        lower_some::<4>(&mut name[length - 4..]);
    } else {
        name.make_ascii_lowercase();
    }
}

fn lower_some<const N: usize>(letters: &mut [u8]) {
    const EACH: u64 = u64::MAX / 255;
    let mut eight = [0; 8];
    eight[..N].copy_from_slice(letters);
    let word = u64::from_le_bytes(eight);
    let low = word & (EACH * 0x7f);
    let from_a = low + EACH * (0x80 - 0x41);
    let above_z = low + EACH * (0x80 - 0x5b);
    let is_upper = from_a & !above_z & !word & (EACH * 0x80);
    letters.copy_from_slice(&(word | is_upper >> 2).to_le_bytes()[..N]);
}

fn place(at: usize) -> u32 {
    u32::try_from(at).expect("a head is bounded far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_lowered_as_ascii() {
        const SOME: &[u8; 18] = b"-aAzZ{@[`09AbCdEfG";
        for length in 0..=SOME.len() {
            for (at, byte) in (0..length).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut name = SOME[..length].to_vec();
                name[at] = byte;
                let expected = name.to_ascii_lowercase();
                lower(&mut name);
                assert_eq!(name, expected, "{byte} at {at} of {length}");
            }
        }
    }

    #[test]
    fn fields_are_found_changed_and_copied() {
        let mut fields = Fields::default();
        fields.push(b"Host", b" a ");
        fields.push(b"X-One", b"1");
        fields.push(b"x-one", b"2");
        assert_eq!(fields.get(b"host"), Some(&b"a"[..]));
        assert_eq!(fields.all(b"x-one").collect::<Vec<_>>(), [b"1", b"2"]);
        fields.set(b"x-one", b"3");
        assert_eq!(fields.all(b"x-one").collect::<Vec<_>>(), [b"3"]);
        fields.push(b"X-Two", b"4");
        fields.push(b"x-three", b"");
        let lines: Vec<_> = fields.lines().collect();
        assert_eq!(lines, [&b"host: a\r\n"[..], b"x-one: 3\r\nx-two: 4\r\nx-three: \r\n"]);
        let mut copy = Fields::default();
        copy.clone_from(&fields);
        assert_eq!(copy, fields);
        fields.clear();
        assert!(fields.is_empty() && copy.len() == 4);
    }
}
