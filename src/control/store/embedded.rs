//! The embedded store: one crash-safe file in the data directory.

use super::{Expect, Store, StoreError, Stored, check};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;

const TABLE: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("values");

/// A store in a file. Every write is on the disk when it returns.
#[derive(Debug)]
pub struct Embedded {
    database: Database,
}

impl Embedded {
    /// Opens the file, and creates it if it is not there.
    ///
    /// # Errors
    /// It cannot be opened, or is no store.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path).map_err(failed)?;
        let write = database.begin_write().map_err(failed)?;
        write.open_table(TABLE).map_err(failed)?;
        write.commit().map_err(failed)?;
        Ok(Self { database })
    }

    /// Writes many values at once, whatever is there.
    ///
    /// # Errors
    /// The store failed; then none of them was written.
    pub fn put_all<'a>(
        &self,
        values: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(failed)?;
        {
            let mut table = write.open_table(TABLE).map_err(failed)?;
            for (key, value) in values {
                match value {
                    Some(value) => {
                        let there = version_of(&table, key)?;
                        table.insert(key, (there + 1, value)).map_err(failed)?;
                    }
                    None => {
                        table.remove(key).map_err(failed)?;
                    }
                }
            }
        }
        write.commit().map_err(failed)
    }
}

impl Store for Embedded {
    fn get(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(TABLE).map_err(failed)?;
        let found = table.get(key).map_err(failed)?;
        Ok(found.map(|it| stored(it.value())))
    }

    fn put(&self, key: &str, value: &[u8], expect: Expect) -> Result<u64, StoreError> {
        let write = self.database.begin_write().map_err(failed)?;
        let version = {
            let mut table = write.open_table(TABLE).map_err(failed)?;
            let there = version_of(&table, key)?;
            check(expect, there)?;
            table.insert(key, (there + 1, value)).map_err(failed)?;
            there + 1
        };
        write.commit().map_err(failed)?;
        Ok(version)
    }

    fn delete(&self, key: &str, expect: Expect) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(failed)?;
        {
            let mut table = write.open_table(TABLE).map_err(failed)?;
            check(expect, version_of(&table, key)?)?;
            table.remove(key).map_err(failed)?;
        }
        write.commit().map_err(failed)
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Stored)>, StoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(TABLE).map_err(failed)?;
        let mut found = Vec::new();
        for entry in table.range(prefix..).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push((key.value().to_owned(), stored(value.value())));
        }
        Ok(found)
    }
}

fn version_of(
    table: &impl ReadableTable<&'static str, (u64, &'static [u8])>,
    key: &str,
) -> Result<u64, StoreError> {
    let found = table.get(key).map_err(failed)?;
    Ok(found.map_or(0, |it| it.value().0))
}

fn stored((version, value): (u64, &[u8])) -> Stored {
    Stored { value: value.to_vec(), version }
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (tempfile::TempDir, Embedded) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(&dir.path().join("store")).expect("a store");
        (dir, store)
    }

    #[test]
    fn a_write_that_comes_too_late_is_refused() {
        let (_dir, store) = fresh();
        assert_eq!(store.put("a", b"1", Expect::Absent).expect("new"), 1);
        assert!(matches!(store.put("a", b"2", Expect::Absent), Err(StoreError::Conflict(1))));
        assert_eq!(store.put("a", b"2", Expect::Version(1)).expect("in time"), 2);
        assert!(matches!(store.put("a", b"3", Expect::Version(1)), Err(StoreError::Conflict(2))));
        assert!(matches!(store.delete("a", Expect::Version(1)), Err(StoreError::Conflict(2))));
        store.delete("a", Expect::Version(2)).expect("in time");
        assert_eq!(store.get("a").expect("works"), None);
        assert!(matches!(store.put("a", b"4", Expect::Version(2)), Err(StoreError::Conflict(0))));
    }

    #[test]
    fn keys_are_listed_by_prefix_also_after_a_restart() {
        let (dir, store) = fresh();
        let values = [("^A#1", Some(&b"x"[..])), ("^A#2", Some(b"y")), ("^B#1", Some(b"z"))];
        store.put_all(values.into_iter()).expect("works");
        store.put_all([("^A#2", None)].into_iter()).expect("works");
        drop(store);
        let again = Embedded::open(&dir.path().join("store")).expect("a store");
        let listed = again.list("^A#").expect("works");
        assert_eq!(listed, [("^A#1".to_owned(), Stored { value: b"x".to_vec(), version: 1 })]);
    }
}
