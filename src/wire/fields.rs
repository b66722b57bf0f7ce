//! Header and trailer fields: one byte block and the ranges in it.
//!
//! Names are kept in lower case, so that comparing is comparing bytes, as HTTP/2 has it. A block is
//! reused: `clear` keeps its memory, and copying into a used one allocates nothing.

/// A list of fields, in the order in which they came.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Fields {
    block: Vec<u8>,
    list: Vec<Field>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Field {
    name: u32,
    value: u32,
    end: u32,
}

impl Fields {
    /// Forgets all fields, keeps the memory.
    pub fn clear(&mut self) {
        self.block.clear();
        self.list.clear();
    }

    /// Adds a field. The name is lowered; the value is taken as it is, without outer white space.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let at = self.block.len();
        self.block.extend_from_slice(name);
        self.block[at..].make_ascii_lowercase();
        let middle = self.block.len();
        self.block.extend_from_slice(value.trim_ascii());
        self.list.push(Field {
            name: place(at),
            value: place(middle),
            end: place(self.block.len()),
        });
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
        &block[self.name as usize..self.value as usize]
    }

    fn value(self, block: &[u8]) -> &[u8] {
        &block[self.value as usize..self.end as usize]
    }
}

fn place(at: usize) -> u32 {
    u32::try_from(at).expect("a head is bounded far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut copy = Fields::default();
        copy.clone_from(&fields);
        assert_eq!(copy, fields);
        fields.clear();
        assert!(fields.is_empty() && copy.len() == 2);
    }
}
