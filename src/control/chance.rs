//! Chance, from the kernel.

use std::fs::File;
use std::io::{self, Read};

/// So many random bytes, as twice as many hexadecimal digits.
pub(super) fn random_hex(bytes: usize) -> io::Result<String> {
    let mut chance = vec![0; bytes];
    File::open("/dev/urandom")?.read_exact(&mut chance)?;
    Ok(chance.iter().map(|byte| format!("{byte:02x}")).collect())
}
