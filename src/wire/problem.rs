//! Answers of the protocol itself, to bytes that are no request.
//!
//! There is no exchange behind such an answer and no message to say it in: it is written whole, and
//! the connection ends with it.

use crate::base::fault::Class;
use http::StatusCode;

/// Appends a whole HTTP/1.1 response of this class to `out`: the message as plain text, and
/// `connection: close`.
pub fn plain(class: Class, message: &str, out: &mut Vec<u8>) {
    let status = StatusCode::from_u16(class.row().status).unwrap_or(StatusCode::BAD_REQUEST);
    let reason = status.canonical_reason().unwrap_or_default();
    let text = format!(
        "HTTP/1.1 {} {reason}\r\nserver: waiter\r\ncontent-type: text/plain\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{message}\n",
        status.as_str(),
        message.len() + 1,
    );
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_answer_is_whole() {
        let mut out = Vec::new();
        plain(Class::VersionUnsupported, "no", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 505 HTTP Version Not Supported\r\nserver: waiter\r\n\
             content-type: text/plain\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n"
        );
    }
}
