//! Plays at the level of bytes: clients and instances on one side, shards on memory in the middle.

mod failures;
mod messages;
mod random;
mod slots;
mod streams;
mod travel;
mod tunnels;
mod volume;
mod world;

fn unchunk(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let line = memchr::memmem::find(bytes.get(at..)?, b"\r\n")?;
        let size = str::from_utf8(&bytes[at..at + line]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a size");
        at += line + 2;
        if size == 0 {
            let end = memchr::memmem::find(&bytes[at - 2..], b"\r\n\r\n")?;
            return Some((at - 2 + end + 4, body));
        }
        body.extend_from_slice(bytes.get(at..at + size)?);
        at += size + 2;
    }
}
