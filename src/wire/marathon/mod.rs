//! What Marathon and a Mesos agent answer, as values: JSON of both generations, 1.3 (nulls,
//! `taskId`) to 1.10 (absent keys, `instanceId`), and the event stream.
//!
//! Reading is lenient in form and strict in content: a null is as good as an absent key, extra keys
//! are passed over anywhere, and what is there but not what it should be is an error of the
//! smallest thing that holds it. Nothing is guessed: a list without its key is no empty list, and a
//! port that is no port is no port.

pub mod agent;
pub mod apps;
pub mod events;
pub mod replies;

pub use apps::{App, Apps, Failure, HealthResult, Task, TaskState};
pub use replies::{Deployment, Trouble};

/// Words of Marathon are shown up to here.
const WORDS_BYTES_MAX: usize = 2048;

/// The beginning of what Marathon says: it can quote what it was sent, or what a task wrote.
pub fn shortened(words: &str) -> &str {
    &words[..words.floor_char_boundary(WORDS_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = format!("x{}", "ä".repeat(2000));
        let cut = shortened(&long);
        assert!(long.starts_with(cut) && cut.len() == 2047, "{}", cut.len());
    }
}
