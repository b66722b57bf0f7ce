//! What routers are to Curator's service discovery, so that those written for the JVM see them.

use crate::core::peers::Member;
use crate::wire::peer::Tag;
use serde_json::{Value, json};

/// Longest value that is read as one; Curator's are below 1 KiB.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// Where the proof stands in the payload. For Curator it is one more word of a map.
const PROOF: &str = "waiter-proof";

/// A router as Curator's `ServiceInstance`, with the proof that it is one.
pub(super) fn write(me: &Member, cluster: &str, proof: &Tag) -> Vec<u8> {
    let (address, port) = place(&me.address);
    let mut payload = json!({
        "@class": "java.util.HashMap", "router-fqdn": address, "router-ssl-port": null,
    });
    payload[PROOF] = hex(proof).into();
    json!({
        "name": cluster,
        "id": me.id.as_str(),
        "address": address,
        "port": port,
        "sslPort": null,
        "payload": payload,
        "registrationTimeUTC": me.since,
        "serviceType": "DYNAMIC",
        "uriSpec": {"parts": [
            {"value": "scheme", "variable": true},
            {"value": "://", "variable": false},
            {"value": "address", "variable": true},
            {"value": ":", "variable": false},
            {"value": "port", "variable": true},
            {"value": "/", "variable": false},
            {"value": "endpoint", "variable": true},
        ]},
    })
    .to_string()
    .into_bytes()
}

/// The router whose node has this name, where it is, if that can be understood, and what should
/// prove it.
pub(super) fn read(name: &str, value: &[u8]) -> Option<(Member, Vec<u8>)> {
    let id = super::lookout::router_id(name)?;
    let whole = value.get(..VALUE_BYTES_MAX.min(value.len()))?;
    let json: Value = serde_json::from_slice(whole).ok()?;
    let (address, port) = (json["address"].as_str()?, json["port"].as_u64()?);
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let since = json["registrationTimeUTC"].as_u64().unwrap_or(0);
    let proof = json["payload"][PROOF].as_str().and_then(unhex).unwrap_or_default();
    Some((Member { id, address: format!("{address}:{port}"), since }, proof))
}

/// Bytes as people write them down.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

/// The reverse; none: it is no such text.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(byte).collect()
}

fn place(address: &str) -> (String, Option<u16>) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    (host.trim_matches(['[', ']']).to_owned(), port.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::RouterId;

    #[test]
    fn a_router_is_read_as_it_was_written_and_garbage_is_none() {
        let jvm = br#"{"address":"h","port":1,"payload":{"waiter-proof":"7"}}"#;
        assert_eq!(read("r", jvm).map(|it| it.1), Some(vec![7]), "what is no proof proves nothing");
        let jvm = br#"{"address":"h","port":1,"payload":{"waiter-proof":"\u00e4"}}"#;
        assert_eq!(read("r", jvm).map(|it| it.1), Some(Vec::new()));
        for address in ["10.0.0.7:9091", "[::1]:80"] {
            let me = Member { id: RouterId::new("r"), address: address.into(), since: 7 };
            assert_eq!(read("r", &write(&me, "c", &[0xa7; 32])), Some((me, vec![0xa7; 32])));
        }
        for garbage in ["", "{", "[]", "{\"address\":1,\"port\":2}", "\u{0}"] {
            assert_eq!(read("r", garbage.as_bytes()), None, "{garbage}");
        }
        assert_eq!(read("r", &vec![b' '; 1 << 20]), None);
        assert_eq!(read("r", &[0xff, 0xfe]), None);
    }
}
