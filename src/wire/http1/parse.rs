//! Reads a whole head, found by [`super::lines`], into a [`Head`] and the facts of its connection.
//!
//! `httparse` takes the lines apart; what it lets pass and RFC 9110 and 9112 do not is refused
//! here. Fields that belong to one connection (RFC 9110 §7.6.1) and framing become facts and never
//! reach the fields of the head, but for `upgrade` where the protocol is to be switched.

use super::body::Body;
use super::grammar;
use crate::base::fault::Class;
use crate::base::limits::Limits;
use crate::wire::fields::Fields;
use crate::wire::head::{Head, Length};
use http::{Method, StatusCode, Version};
use httparse::{Header, ParserConfig, Status};
use std::mem::MaybeUninit;

/// Room on the stack for the fields of one head; more than this many are refused whatever the
/// limits say.
const FIELDS_MOST: usize = 256;
const _: () = assert!(Limits::PRODUCTION.head_fields <= FIELDS_MOST);

type Headers<'a> = [MaybeUninit<Header<'a>>; FIELDS_MOST];

/// Why bytes are refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Wrong {
    pub(super) class: Class,
    pub(super) message: &'static str,
}

/// What a head says about its connection.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) body: Body,
    /// The connection may stay after this message.
    pub(super) keep: bool,
    /// The client waits for `100 Continue`.
    pub(super) expects: bool,
}

impl Wrong {
    pub(super) fn bad(message: &'static str) -> Self {
        Self { class: Class::BadRequest, message }
    }

    fn missing(message: &'static str) -> Self {
        Self { class: Class::NotImplemented, message }
    }
}

/// Reads a request's head. Of one that is refused, `head` holds what could be read.
pub(super) fn request(bytes: &[u8], fields: usize, head: &mut Head) -> Result<Facts, Wrong> {
    let facts = whole_request(bytes, fields, head);
    if facts.is_err() {
        outline(bytes, head);
    }
    facts
}

fn whole_request(bytes: &[u8], fields: usize, head: &mut Head) -> Result<Facts, Wrong> {
    let mut lines: Headers<'_> = [const { MaybeUninit::uninit() }; FIELDS_MOST];
    let mut parsed = httparse::Request::new(&mut []);
    head.clear();
    let result = ParserConfig::default().parse_request_with_uninit_headers(
        &mut parsed,
        bytes,
        &mut lines[..fields.min(FIELDS_MOST)],
    );
    whole(result, bytes)?;
    let (Some(method), Some(path), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Wrong::bad("The request line is not well-formed."));
    };
    head.version = version(minor);
    head.method = Method::from_bytes(method.as_bytes())
        .map_err(|_| Wrong::bad("The method is not well-formed."))?;
    if head.method == Method::CONNECT {
        return Err(Wrong::missing("CONNECT is not offered."));
    }
    let control = Control::scan(Kind::Request, parsed.headers, fields, &mut head.fields)?;
    address(path.as_bytes(), control.host, head)?;
    head.length = control.declared(head.version)?;
    if control.connection.upgrade && head.version == Version::HTTP_11 && control.is_opaque() {
        upgrade(parsed.headers, head);
    }
    let body = match head.length {
        Length::Absent => Body::Over,
        Length::Exact(length) => Body::exact(length),
        Length::Unknown => Body::CHUNKED,
    };
    let expects = control.expects && head.version == Version::HTTP_11 && !body.is_over();
    Ok(Facts { body, keep: control.connection.keep(head.version), expects })
}

/// Reads the head of a response to a request of this method.
pub(super) fn response(
    bytes: &[u8],
    fields: usize,
    asked: &Method,
    head: &mut Head,
) -> Result<Facts, Wrong> {
    let mut lines: Headers<'_> = [const { MaybeUninit::uninit() }; FIELDS_MOST];
    let mut parsed = httparse::Response::new(&mut []);
    let result = ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        bytes,
        &mut lines[..fields.min(FIELDS_MOST)],
    );
    whole(result, bytes)?;
    let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Wrong::bad("The status line is not well-formed."));
    };
    head.clear();
    head.version = version(minor);
    head.status =
        StatusCode::from_u16(code).map_err(|_| Wrong::bad("The status code is out of range."))?;
    let control = Control::scan(Kind::Response, parsed.headers, fields, &mut head.fields)?;
    let declared = control.declared(head.version)?;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // RFC 9110 §7.8 and §15.2.2; a body here would be the first bytes of the tunnel to some.
        let is_plain = head.version == Version::HTTP_11 && declared == Length::Absent;
        if !is_plain || !control.connection.upgrade || !control.is_opaque() {
            return Err(Wrong::bad("The protocol was switched, and it is not said to which."));
        }
        upgrade(parsed.headers, head);
        return Ok(Facts { body: Body::UntilClose, keep: false, expects: false });
    }
    let silent = head.status.is_informational() || head.status == StatusCode::NO_CONTENT;
    head.length = if silent { Length::Absent } else { declared };
    let bodyless = silent || head.status == StatusCode::NOT_MODIFIED || *asked == Method::HEAD;
    let body = match declared {
        _ if bodyless => Body::Over,
        Length::Exact(length) => Body::exact(length),
        Length::Unknown => Body::CHUNKED,
        Length::Absent => {
            head.length = Length::Unknown;
            Body::UntilClose
        }
    };
    let keep = control.connection.keep(head.version) && !matches!(body, Body::UntilClose);
    Ok(Facts { body, keep, expects: false })
}

/// Reads a trailer section with the empty line that ends it. Fields that a trailer may not carry
/// (RFC 9110 §6.5.1: framing, routing, authentication, how to read the content) are dropped.
pub(super) fn trailers(bytes: &[u8], most: usize, fields: &mut Fields) -> Result<(), Wrong> {
    let mut lines = [httparse::EMPTY_HEADER; FIELDS_MOST];
    match httparse::parse_headers(bytes, &mut lines[..most.min(FIELDS_MOST)]) {
        Ok(Status::Complete((end, headers))) if end == bytes.len() => {
            for header in headers {
                let name = header.name.as_bytes();
                if may_trail(name) {
                    fields.push(name, header.value);
                }
            }
            Ok(())
        }
        _ => Err(Wrong::bad("The trailer section is not well-formed.")),
    }
}

/// As much of a refused request's first line as can be told, for the log and the answer.
pub(super) fn outline(bytes: &[u8], head: &mut Head) {
    let end = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
    let mut words = bytes[..end].split(|it| *it == b' ');
    let Ok(method) = Method::from_bytes(words.next().unwrap_or_default()) else { return };
    head.method = method;
    let target = words.next().unwrap_or_default();
    if let Some(target) = grammar::target(&head.method, target) {
        head.set_authority(target.authority.unwrap_or_default());
        head.set_target(target.rest);
    }
    if words.next() == Some(b"HTTP/1.0") {
        head.version = Version::HTTP_10;
    }
}

/// Keeps `upgrade` among the fields.
fn upgrade(headers: &[Header<'_>], head: &mut Head) {
    head.switches = true;
    for header in headers.iter().filter(|it| special(it.name.as_bytes()) == Some(Special::Upgrade))
    {
        head.fields.push(b"upgrade", header.value);
    }
}

/// Whether a trailer may carry this field. What frames a message, says where it goes or who sent
/// it, or is the router's own word, counts in a head only.
pub(super) fn may_trail(name: &[u8]) -> bool {
    const NEVER: [&[u8]; 11] = [
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"forwarded",
        b"range",
        b"set-cookie",
        b"via",
        b"x-cid",
    ];
    const OURS: [&[u8]; 2] = [b"x-waiter-", b"x-forwarded-"];
    special(name).is_none()
        && !NEVER.iter().any(|it| it.eq_ignore_ascii_case(name))
        && !OURS.iter().any(|it| grammar::begins_with(name, it))
}

/// What httparse says of a head that is known to be whole.
fn whole(result: httparse::Result<usize>, bytes: &[u8]) -> Result<(), Wrong> {
    match result {
        Ok(Status::Complete(end)) if end == bytes.len() => Ok(()),
        Ok(_) => Err(Wrong::bad("The head is not well-formed.")),
        Err(httparse::Error::TooManyHeaders) => Err(TOO_MANY),
        Err(httparse::Error::Version) if has_version(bytes) => Err(Wrong {
            class: Class::VersionUnsupported,
            message: "HTTP/1.1 and HTTP/1.0 are spoken here.",
        }),
        Err(httparse::Error::HeaderName) => Err(Wrong::bad("A field name is not well-formed.")),
        Err(httparse::Error::HeaderValue) => Err(Wrong::bad("A field value is not well-formed.")),
        Err(_) => Err(Wrong::bad("The first line is not well-formed.")),
    }
}

const TOO_MANY: Wrong =
    Wrong { class: Class::HeadTooLarge, message: "The head has too many fields." };

/// Whether the first line is a request line of some other version of HTTP.
fn has_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|it| *it == b'\r').next().unwrap_or_default();
    let mut words = line.split(|it| *it == b' ').skip(2);
    let version = words.next().unwrap_or_default();
    let is_some = matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit());
    is_some && words.next().is_none()
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// Finds out whom and what a request is for (RFC 9112 §3.2 and §3.3).
fn address(path: &[u8], host: Option<&[u8]>, head: &mut Head) -> Result<(), Wrong> {
    let target = grammar::target(&head.method, path)
        .ok_or_else(|| Wrong::bad("The target is not well-formed."))?;
    let authority = match (target.authority, host) {
        (_, Some(host)) if !grammar::is_authority(host) => {
            return Err(Wrong::bad("The Host field is not well-formed."));
        }
        (_, None) if head.version == Version::HTTP_11 => {
            return Err(Wrong::bad("There is no Host field."));
        }
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            return Err(Wrong::bad("The Host field is not the authority of the target."));
        }
        (Some(authority), _) => authority,
        (None, host) => host.unwrap_or_default(),
    };
    head.set_authority(authority);
    match target.rest.first() {
        Some(b'?') => head.set_target(&[b"/", target.rest].concat()),
        None if head.method == Method::OPTIONS => head.set_target(b"*"),
        None => head.set_target(b"/"),
        Some(_) => head.set_target(target.rest),
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Request,
    Response,
}

/// A field that is no plain field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Special {
    Connection,
    ContentLength,
    TransferEncoding,
    /// Of requests only.
    Host,
    /// Of requests only.
    Expect,
    Upgrade,
    /// Means something to one connection, and nothing here.
    Hop,
}

fn special(name: &[u8]) -> Option<Special> {
    let known: &[(&[u8], Special)] = match name.len() {
        2 => &[(b"te", Special::Hop)],
        4 => &[(b"host", Special::Host)],
        6 => &[(b"expect", Special::Expect)],
        7 => &[(b"upgrade", Special::Upgrade), (b"trailer", Special::Hop)],
        10 => &[(b"connection", Special::Connection), (b"keep-alive", Special::Hop)],
        14 => &[(b"content-length", Special::ContentLength)],
        16 => &[(b"proxy-connection", Special::Hop)],
        17 => &[(b"transfer-encoding", Special::TransferEncoding)],
        18 => &[(b"proxy-authenticate", Special::Hop)],
        19 => &[(b"proxy-authorization", Special::Hop)],
        _ => &[],
    };
    let first = name.first().map(|it| it | 0x20); // in lower case, if it is a letter
    let is = |it: &[u8]| it.first().copied() == first && it.eq_ignore_ascii_case(name);
    known.iter().find(|(it, _)| is(it)).map(|(_, special)| *special)
}

/// What the special fields of a head say.
#[derive(Debug, Default)]
struct Control<'a> {
    length: Option<u64>,
    coding: Coding,
    host: Option<&'a [u8]>,
    expects: bool,
    connection: Connection,
    upgrade: Upgrade,
}

/// What Upgrade lists.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Upgrade {
    #[default]
    Nothing,
    Opaque,
    /// Another version of HTTP. It is not passed on: one slot would carry many requests, and no
    /// rule for requests would be applied to them.
    Http,
}

/// What Transfer-Encoding says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Coding {
    #[default]
    Identity,
    Chunked,
    Other,
}

/// What Connection says.
#[derive(Debug, Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// How many other fields it names.
    named: usize,
}

impl Connection {
    /// RFC 9112 §9.3.
    fn keep(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }

    fn add(&mut self, value: &[u8]) {
        for element in grammar::elements(value) {
            if element.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if element.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if element.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.named += 1;
            }
        }
    }
}

impl<'a> Control<'a> {
    /// Puts plain fields into `fields` and the meaning of the others here.
    fn scan(
        kind: Kind,
        headers: &[Header<'a>],
        most: usize,
        fields: &mut Fields,
    ) -> Result<Self, Wrong> {
        let mut control = Self::default();
        for header in headers {
            let name = header.name.as_bytes();
            match (special(name), kind) {
                (Some(special), Kind::Request) => control.add(special, header.value)?,
                (None | Some(Special::Host | Special::Expect), _) => {
                    fields.push(name, header.value);
                }
                (Some(special), Kind::Response) => control.add(special, header.value)?,
            }
        }
        // Removing the named ones costs names times fields: both are bounded.
        if control.connection.named > most {
            return Err(TOO_MANY);
        }
        if control.connection.named > 0 {
            remove_named(headers, fields);
        }
        Ok(control)
    }

    fn add(&mut self, special: Special, value: &'a [u8]) -> Result<(), Wrong> {
        match special {
            Special::Connection => self.connection.add(value),
            Special::ContentLength => {
                let length = grammar::content_length(value)
                    .ok_or_else(|| Wrong::bad("The Content-Length is not well-formed."))?;
                if self.length.replace(length).is_some() {
                    return Err(Wrong::bad("There are several lengths."));
                }
            }
            Special::TransferEncoding => {
                self.coding = match self.coding {
                    Coding::Identity if value.eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
                    _ => Coding::Other,
                };
            }
            Special::Host => {
                if self.host.replace(value).is_some() {
                    return Err(Wrong::bad("There are several Host fields."));
                }
            }
            Special::Expect => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Wrong {
                        class: Class::ExpectationFailed,
                        message: "Only 100-continue can be expected.",
                    });
                }
                self.expects = true;
            }
            Special::Upgrade => {
                for protocol in grammar::elements(value) {
                    let begins = |it: &&[u8]| grammar::begins_with(protocol, it);
                    if [&b"h2"[..], b"h3", b"http/"].iter().any(begins) {
                        self.upgrade = Upgrade::Http;
                    } else if self.upgrade == Upgrade::Nothing {
                        self.upgrade = Upgrade::Opaque;
                    }
                }
            }
            Special::Hop => {}
        }
        Ok(())
    }

    /// Whether Upgrade lists protocols that can be carried as bytes.
    fn is_opaque(&self) -> bool {
        self.upgrade == Upgrade::Opaque
    }

    /// Both framings at once, or a coding where the version has none, are how requests are
    /// smuggled: refused, although RFC 9112 §6.1 leaves a choice.
    fn unambiguous(&self, version: Version) -> Result<(), Wrong> {
        if self.coding == Coding::Identity {
            return Ok(());
        }
        if self.length.is_some() {
            return Err(Wrong::bad("There are both Content-Length and Transfer-Encoding."));
        }
        if version == Version::HTTP_10 {
            return Err(Wrong::bad("There is a Transfer-Encoding in HTTP/1.0."));
        }
        if self.coding == Coding::Other {
            return Err(Wrong::missing("The only Transfer-Encoding known is `chunked`."));
        }
        Ok(())
    }

    /// What the head declares; `Absent` if nothing.
    fn declared(&self, version: Version) -> Result<Length, Wrong> {
        self.unambiguous(version)?;
        Ok(match (self.coding, self.length) {
            (Coding::Identity, Some(length)) => Length::Exact(length),
            (Coding::Identity, None) => Length::Absent,
            (Coding::Chunked | Coding::Other, _) => Length::Unknown,
        })
    }
}

/// Removes the fields that Connection names (RFC 9110 §7.6.1).
fn remove_named(headers: &[Header<'_>], fields: &mut Fields) {
    for header in
        headers.iter().filter(|it| special(it.name.as_bytes()) == Some(Special::Connection))
    {
        for name in grammar::elements(header.value) {
            fields.retain(|it, _| !it.eq_ignore_ascii_case(name));
        }
    }
}
