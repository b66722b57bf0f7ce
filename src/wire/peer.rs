//! Frames between routers: who speaks, proved by the cluster's secret, and that nothing was
//! changed, repeated or left out.
//!
//! The router that connects says [`Hello`]; the other answers with a [`Welcome`], which proves that
//! it knows the secret; the first proves the same with its [`Proof`]. Both nonces go into every tag
//! and into the key of the connection, so that nothing of another connection is of use here. Then
//! each side sends frames, numbered from 0, of its own direction; the first that does not fit ends
//! the connection.
//!
//! Must hold: nothing of a frame is looked at before its tag has been compared, in constant time; a
//! length is refused before memory is given for it. What is said is not hidden. Nonces are given by
//! the caller, 32 bytes of the system's own chance for each connection.

use crate::base::time::{Date, Duration};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The path at which routers meet, and the protocol that they ask for there.
pub const PATH: &str = "/waiter-peers";
/// See [`PATH`].
pub const PROTOCOL: &str = "waiter-peers/1";

/// A number that is used once.
pub type Nonce = [u8; 32];

/// What proves that somebody knows a key.
pub type Tag = [u8; 32];

/// Longest name of a router.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest payload of a frame.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// How far the clocks of two routers may be apart when they meet.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60);

/// Length, number, tag.
const FRAME_HEAD: usize = 4 + 8 + 32;

/// Shortest secret that is accepted.
pub const SECRET_BYTES_MIN: usize = 16;

/// Why a peer is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mistrust {
    /// The secret is shorter than [`SECRET_BYTES_MIN`].
    SecretTooShort,
    /// It is not what it should be at this place.
    Malformed,
    /// It is meant for another router, or comes from another than was called.
    OtherRouter,
    /// The clocks are more than [`CLOCK_SKEW_MAX`] apart.
    Skewed,
    /// The tag is wrong: another secret, or changed bytes.
    Forged,
    /// A frame was repeated or left out.
    OutOfOrder,
    /// A frame is longer than allowed.
    TooLong,
}

/// What all routers of a cluster know.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The first word, of the router that connects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// Who connects.
    pub from: String,
    /// To whom.
    pub to: String,
    /// Of this connection.
    pub nonce: Nonce,
    /// When.
    pub date: Date,
}

/// The answer, with a proof.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Welcome {
    /// Of this connection.
    pub nonce: Nonce,
    /// Knows the secret.
    pub tag: Tag,
}

/// The last word of the greeting.
pub type Proof = Tag;

/// Which side of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Connector = 1,
    Acceptor = 2,
}

/// One direction of a connection whose sides have proved themselves.
#[derive(Clone)]
pub struct Channel {
    key: Hmac<Sha256>,
    from: Side,
    next: u64,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("from", &self.from).field("next", &self.next).finish()
    }
}

/// Both directions, as one side has them.
#[derive(Clone, Debug)]
pub struct Channels {
    /// To seal what is sent.
    pub out: Channel,
    /// To open what arrives.
    pub inward: Channel,
}

impl Secret {
    /// The secret of a cluster.
    ///
    /// # Errors
    /// If it is too short to be one.
    pub fn new(secret: &[u8]) -> Result<Self, Mistrust> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(Mistrust::SecretTooShort);
        }
        Ok(Self(keyed(secret)))
    }

    /// The acceptor hears a hello that should be for `me`: its answer, and what it expects next.
    ///
    /// # Errors
    /// If it is for another, or of another time.
    pub fn welcome(
        &self,
        hello: &Hello,
        me: &str,
        nonce: Nonce,
        now: Date,
    ) -> Result<Welcome, Mistrust> {
        if hello.to != me || hello.from == me {
            return Err(Mistrust::OtherRouter);
        }
        if now.since(hello.date).max(hello.date.since(now)) > CLOCK_SKEW_MAX {
            return Err(Mistrust::Skewed);
        }
        Ok(Welcome { nonce, tag: self.tag(hello, &nonce, Side::Acceptor) })
    }

    /// The connector hears the answer to its hello: its proof, and the connection.
    ///
    /// # Errors
    /// If the other does not know the secret.
    pub fn prove(&self, hello: &Hello, welcome: &Welcome) -> Result<(Proof, Channels), Mistrust> {
        let expected = self.tag(hello, &welcome.nonce, Side::Acceptor);
        same(&expected, &welcome.tag)?;
        let proof = self.tag(hello, &welcome.nonce, Side::Connector);
        Ok((proof, self.channels(hello, &welcome.nonce, Side::Connector)))
    }

    /// The acceptor hears the proof: the connection.
    ///
    /// # Errors
    /// If the other does not know the secret.
    pub fn accept(
        &self,
        hello: &Hello,
        welcome: &Welcome,
        proof: &Proof,
    ) -> Result<Channels, Mistrust> {
        same(&self.tag(hello, &welcome.nonce, Side::Connector), proof)?;
        Ok(self.channels(hello, &welcome.nonce, Side::Acceptor))
    }

    /// Proves where a router is, to whoever reads of it elsewhere: on that session with ZooKeeper,
    /// so that nobody else can say the same again; 0: on none.
    pub fn vouch(&self, router: &str, address: &str, session: i64) -> Tag {
        let mut mac = self.0.clone();
        mac.update(b"waiter peer 1 place");
        for text in [router, address] {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text.as_bytes());
        }
        mac.update(&session.to_be_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Whether that was proved so.
    pub fn vouches(&self, tag: &[u8], router: &str, address: &str, session: i64) -> bool {
        self.vouch(router, address, session).ct_eq(tag).into()
    }

    fn tag(&self, hello: &Hello, answer: &Nonce, side: Side) -> Tag {
        let mut mac = self.0.clone();
        mac.update(b"waiter peer 1 proof");
        mac.update(&[side as u8]);
        feed(&mut mac, hello, answer);
        mac.finalize().into_bytes().into()
    }

    fn channels(&self, hello: &Hello, answer: &Nonce, me: Side) -> Channels {
        let mut mac = self.0.clone();
        mac.update(b"waiter peer 1 key");
        feed(&mut mac, hello, answer);
        let key = keyed(&mac.finalize().into_bytes());
        let other = match me {
            Side::Connector => Side::Acceptor,
            Side::Acceptor => Side::Connector,
        };
        Channels {
            out: Channel { key: key.clone(), from: me, next: 0 },
            inward: Channel { key, from: other, next: 0 },
        }
    }
}

impl Hello {
    /// As bytes: each name behind its length.
    pub fn write(&self, out: &mut Vec<u8>) {
        for name in [&self.from, &self.to] {
            let length = u8::try_from(name.len()).expect("names of routers are short");
            out.push(length);
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.date.0.to_be_bytes());
    }

    /// From all the bytes of one.
    ///
    /// # Errors
    /// If they are not one.
    pub fn read(bytes: &[u8]) -> Result<Self, Mistrust> {
        let (from, bytes) = name(bytes)?;
        let (to, bytes) = name(bytes)?;
        let (nonce, date) = bytes.split_first_chunk::<32>().ok_or(Mistrust::Malformed)?;
        let date = u64::from_be_bytes(date.try_into().map_err(|_| Mistrust::Malformed)?);
        Ok(Self { from, to, nonce: *nonce, date: Date(date) })
    }
}

impl Channel {
    /// Writes a payload as the next frame.
    pub fn seal(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        assert!(payload.len() <= FRAME_BYTES_MAX, "payloads are bounded where they are made");
        let length = u32::try_from(payload.len()).expect("bounded");
        let tag = self.tag(payload);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.next.to_be_bytes());
        out.extend_from_slice(&tag);
        out.extend_from_slice(payload);
        self.next += 1;
    }

    /// The payload of the frame at the beginning of `bytes`, and how many bytes the frame has;
    /// none if it is not whole yet. After an error the connection is of no more use.
    ///
    /// # Errors
    /// If it is not the next frame of the other side.
    pub fn open<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, Mistrust> {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(Mistrust::TooLong);
        }
        let Some((number, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
        if u64::from_be_bytes(*number) != self.next {
            return Err(Mistrust::OutOfOrder);
        }
        let Some((tag, rest)) = rest.split_first_chunk::<32>() else { return Ok(None) };
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        same(&self.tag(payload), tag)?;
        self.next += 1;
        Ok(Some((payload, FRAME_HEAD + length)))
    }

    fn tag(&self, payload: &[u8]) -> Tag {
        let mut mac = self.key.clone();
        mac.update(&[self.from as u8]);
        mac.update(&self.next.to_be_bytes());
        mac.update(payload);
        mac.finalize().into_bytes().into()
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("any length of key will do")
}

/// Everything that was said in a greeting, each piece of known length.
fn feed(mac: &mut Hmac<Sha256>, hello: &Hello, answer: &Nonce) {
    let mut said = Vec::new();
    hello.write(&mut said);
    mac.update(&said);
    mac.update(answer);
}

fn same(expected: &Tag, got: &Tag) -> Result<(), Mistrust> {
    if bool::from(expected.ct_eq(got)) { Ok(()) } else { Err(Mistrust::Forged) }
}

fn name(bytes: &[u8]) -> Result<(String, &[u8]), Mistrust> {
    let (length, rest) = bytes.split_first().ok_or(Mistrust::Malformed)?;
    let (name, rest) = rest.split_at_checked(usize::from(*length)).ok_or(Mistrust::Malformed)?;
    let name = std::str::from_utf8(name).map_err(|_| Mistrust::Malformed)?;
    Ok((name.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Date = Date(1_000_000);

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes()).expect("long enough")
    }

    fn hello() -> Hello {
        Hello { from: "a".into(), to: "b".into(), nonce: [1; 32], date: NOW }
    }

    /// Both sides of a connection.
    fn connection() -> (Channels, Channels) {
        let (a, b) = (secret("sixteen bytes at least"), secret("sixteen bytes at least"));
        let welcome = b.welcome(&hello(), "b", [2; 32], NOW).expect("it is for b");
        let (proof, at_a) = a.prove(&hello(), &welcome).expect("b knows the secret");
        (at_a, b.accept(&hello(), &welcome, &proof).expect("a knows the secret"))
    }

    #[test]
    fn who_knows_the_secret_is_heard_in_both_directions() {
        let (mut a, mut b) = connection();
        for payload in [&b"one"[..], b"", &[7; 1000]] {
            let mut bytes = Vec::new();
            a.out.seal(payload, &mut bytes);
            for end in 0..bytes.len() {
                assert_eq!(b.inward.clone().open(&bytes[..end]), Ok(None), "partial is no error");
            }
            assert_eq!(b.inward.open(&bytes), Ok(Some((payload, bytes.len()))));
            bytes.clear();
            b.out.seal(payload, &mut bytes);
            assert_eq!(a.inward.open(&bytes), Ok(Some((payload, bytes.len()))));
        }
    }

    #[test]
    fn what_is_not_right_is_not_believed() {
        assert_eq!(Secret::new(b"short").err(), Some(Mistrust::SecretTooShort));
        let (a, other) = (secret("sixteen bytes at least"), secret("some other secret of it"));
        let late = Date(NOW.0 + 61_000);
        assert_eq!(a.welcome(&hello(), "b", [2; 32], late).err(), Some(Mistrust::Skewed));
        assert_eq!(a.welcome(&hello(), "c", [2; 32], NOW).err(), Some(Mistrust::OtherRouter));
        let welcome = other.welcome(&hello(), "b", [2; 32], NOW).expect("it cannot know");
        assert_eq!(a.prove(&hello(), &welcome).err(), Some(Mistrust::Forged));
        // A proof is that of its own side and its own nonces.
        let welcome = a.welcome(&hello(), "b", [2; 32], NOW).expect("it is for b");
        assert_eq!(a.accept(&hello(), &welcome, &welcome.tag).err(), Some(Mistrust::Forged));
        let (proof, _) = a.prove(&hello(), &welcome).expect("it knows the secret");
        let anew = Welcome { nonce: [3; 32], ..welcome };
        assert_eq!(a.accept(&hello(), &anew, &proof).err(), Some(Mistrust::Forged));
    }

    #[test]
    fn a_place_is_vouched_for_as_it_was_said_and_on_its_session() {
        let (ours, other) = (secret("sixteen bytes at least"), secret("some other secret of it"));
        let tag = ours.vouch("a", "10.0.0.7:80", 7);
        assert!(ours.vouches(&tag, "a", "10.0.0.7:80", 7));
        for (router, address, session) in [
            ("b", "10.0.0.7:80", 7),
            ("a", "10.0.0.7:8", 7),
            ("a1", "0.0.0.7:80", 7),
            ("a", "10.0.0.7:80", 8),
        ] {
            assert!(!ours.vouches(&tag, router, address, session), "{router} {address} {session}");
        }
        assert!(!other.vouches(&tag, "a", "10.0.0.7:80", 7));
        assert!(!ours.vouches(&tag[..31], "a", "10.0.0.7:80", 7) && !ours.vouches(b"", "a", "", 0));
    }

    #[test]
    fn a_frame_is_neither_changed_nor_repeated_nor_returned_nor_left_out() {
        let (mut a, mut b) = connection();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        a.out.seal(b"first", &mut first);
        a.out.seal(b"second", &mut second);
        assert_eq!(b.inward.clone().open(&second), Err(Mistrust::OutOfOrder));
        for at in 0..first.len() {
            let mut changed = first.clone();
            changed[at] ^= 1;
            let got = b.inward.clone().open(&changed);
            assert!(matches!(got, Err(_) | Ok(None)), "byte {at}");
        }
        assert_eq!(a.inward.open(&first), Err(Mistrust::Forged), "its own words");
        assert!(b.inward.open(&first).is_ok());
        assert_eq!(b.inward.open(&first), Err(Mistrust::OutOfOrder));
        let mut long = second.clone();
        long[0] = 0xff;
        assert_eq!(b.inward.open(&long), Err(Mistrust::TooLong));
    }

    #[test]
    fn a_hello_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        hello().write(&mut bytes);
        assert_eq!(Hello::read(&bytes), Ok(hello()));
        for end in 0..bytes.len() {
            assert_eq!(Hello::read(&bytes[..end]), Err(Mistrust::Malformed));
        }
        bytes.push(0);
        assert_eq!(Hello::read(&bytes), Err(Mistrust::Malformed));
    }
}
