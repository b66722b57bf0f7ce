//! Where a message ends, found without the product's codec.

/// How long the first whole message is, and its body; none if it is not whole.
pub(super) fn whole(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("transfer-encoding: chunked") {
        return unchunk(&bytes[head..]).map(|(used, body)| (head + used, body));
    }
    let length = text
        .split_once("content-length: ")
        .map_or(0, |(_, rest)| rest.split_once('\r').expect("a line").0.parse().expect("a length"));
    let body = bytes.get(head..head + length)?;
    Some((head + length, body.to_vec()))
}

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
