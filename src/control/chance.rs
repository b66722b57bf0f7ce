//! Chance, from the kernel.

use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// Fills a buffer with random bytes.
///
/// # Errors
/// The kernel gives none.
pub fn fill(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let filled = getrandom(&mut *bytes, GetRandomFlags::empty())?;
        bytes = &mut bytes[filled..];
    }
    Ok(())
}

/// So many random bytes, as twice as many hexadecimal digits.
///
/// # Errors
/// Those of [`fill`].
pub fn random_hex(bytes: usize) -> io::Result<String> {
    let mut chance = vec![0; bytes];
    fill(&mut chance)?;
    Ok(chance.iter().map(|byte| format!("{byte:02x}")).collect())
}
