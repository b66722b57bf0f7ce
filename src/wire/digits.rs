//! Numbers as text, without the costs of `fmt`: each message has some.

/// Writes digits of a base of at most 16.
pub fn number(mut value: u64, base: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(value % base) as usize];
        value /= base;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_both_bases() {
        for (value, base, text) in [
            (0, 10, "0"),
            (1_234_567_890, 10, "1234567890"),
            (u64::MAX, 10, "18446744073709551615"),
            (0, 16, "0"),
            (255, 16, "ff"),
            (u64::MAX, 16, "ffffffffffffffff"),
        ] {
            let mut out = Vec::new();
            number(value, base, &mut out);
            assert_eq!(out, text.as_bytes(), "{value} in base {base}");
        }
    }
}
