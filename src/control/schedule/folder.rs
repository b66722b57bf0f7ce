//! Folders of instances that are processes of this host.

use crate::core::sandbox::{Item, Kind, Wanted};
use std::io;
use std::path::{Component, Path};

/// What is in the folder of an instance, or in a folder of it. None: there is no such folder.
///
/// # Errors
/// It cannot be read.
pub fn list(wanted: &Wanted) -> Result<Option<Vec<Item>>, String> {
    let below = Path::new(wanted.folder.trim_start_matches('/'));
    let stays = below.components().all(|it| matches!(it, Component::Normal(_)));
    if !stays || wanted.root.is_empty() {
        return Ok(None);
    }
    match read(&Path::new(&wanted.root).join(below), below) {
        Ok(mut items) => {
            items.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(Some(items))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("the folder of the instance cannot be read: {error}")),
    }
}

/// A link is told as what it is and not followed: it may lead anywhere.
fn read(folder: &Path, below: &Path) -> io::Result<Vec<Item>> {
    if folder.symlink_metadata()?.is_symlink() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut items = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        let about = entry.path().symlink_metadata()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = if about.is_dir() {
            Kind::Folder(below.join(&name).to_string_lossy().into_owned())
        } else {
            Kind::File(format!("file:{}", entry.path().display()))
        };
        items.push(Item { name, size: about.len(), kind });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_is_listed_and_nothing_outside_it() {
        let temporary = tempfile::tempdir().expect("a directory");
        let root = temporary.path().join("instance");
        fs::create_dir_all(root.join("logs")).expect("made");
        fs::write(root.join("stdout"), "hello").expect("written");
        fs::write(root.join("logs/a"), "a").expect("written");
        std::os::unix::fs::symlink("/", root.join("up")).expect("linked");
        let look = |folder: &str| {
            list(&Wanted {
                instance: "s.1".into(),
                host: "127.0.0.1".into(),
                root: root.to_str().expect("text").to_owned(),
                folder: folder.to_owned(),
            })
        };
        let items = look("").expect("readable").expect("there");
        let told: Vec<_> = items.iter().map(|it| (it.name.as_str(), it.size)).collect();
        assert_eq!((told[0].0, told[1], told[2].0), ("logs", ("stdout", 5), "up"));
        assert_eq!(items[0].kind, Kind::Folder("logs".into()));
        assert_eq!(look("logs").expect("readable").expect("there")[0].name, "a");
        for outside in ["..", "logs/../..", "none", "up"] {
            assert_eq!(look(outside), Ok(None), "{outside}");
        }
    }
}
