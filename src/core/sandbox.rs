//! What is in the folder of an instance, as far as somebody asks to see it.

/// One thing in a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// Its name there.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// What it is, and where more is to be had.
    pub kind: Kind,
}

/// What a thing in a folder is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A file, with where it is to be had.
    File(String),
    /// A folder, with what to ask for to see into it.
    Folder(String),
}

/// Whose folder is to be seen.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The instance, as its scheduler names it.
    pub instance: String,
    /// Name of its host, as its scheduler says.
    pub host: String,
    /// The folder as its scheduler told it; empty: it is not known.
    pub root: String,
    /// A folder within it; empty: itself.
    pub folder: String,
}
