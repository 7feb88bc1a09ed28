//! An object as stored bytes that gets its `resourceVersion` while it is written out.
//!
//! Stored JSON never holds a `resourceVersion`: it is the revision of the write that stored it. It is spliced into
//! `metadata` on the way to a client, found by a scan of the bytes before it (in objects we store, `apiVersion` and
//! `kind` alone), so a LIST decodes nothing.

use bytes::Bytes;
use serde_json::Value;

/// The bytes are no JSON object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("stored bytes are not a JSON object (at byte {at})")]
pub struct Unreadable {
    pub at: usize,
}

/// Stored bytes and the revision they were stored at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    pub bytes: Bytes,
    /// 0 writes no `resourceVersion`.
    pub rv: u64,
}

/// Where the `resourceVersion` goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// After the `{` of `metadata`; `empty` when `}` follows.
    InMetadata { at: usize, empty: bool },
    /// There is no `metadata`: after the `{` of the object; `empty` when `}` follows.
    InRoot { at: usize, empty: bool },
    /// `metadata` is no object (null): these bytes are replaced.
    Instead { from: usize, to: usize },
}

impl Encoded {
    pub fn new(bytes: impl Into<Bytes>, rv: u64) -> Self {
        Self { bytes: bytes.into(), rv }
    }

    /// Encodes a tree for the store, without its `resourceVersion`.
    pub fn from_value(object: &Value, rv: u64) -> Self {
        let bytes = if super::resource_version(object).is_empty() {
            object.to_string()
        } else {
            let mut bare = object.clone();
            super::set_resource_version(&mut bare, "");
            bare.to_string()
        };
        Self { bytes: bytes.into(), rv }
    }

    /// Decodes it, with its `resourceVersion`.
    pub fn to_value(&self) -> Result<Value, serde_json::Error> {
        let mut object: Value = serde_json::from_slice(&self.bytes)?;
        if self.rv != 0 {
            super::set_resource_version(&mut object, &self.rv.to_string());
        }
        Ok(object)
    }

    /// Appends the object with its `resourceVersion` to `out`.
    pub fn write_to(&self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        if self.rv == 0 {
            out.extend_from_slice(&self.bytes);
            return Ok(());
        }
        let place = find_metadata(&self.bytes)?;
        let rv = self.rv;
        let (head, middle, tail) = match place {
            Place::InMetadata { at, empty } => (at, format!("\"resourceVersion\":\"{rv}\"{}", comma(empty)), at),
            Place::InRoot { at, empty } => {
                (at, format!("\"metadata\":{{\"resourceVersion\":\"{rv}\"}}{}", comma(empty)), at)
            }
            Place::Instead { from, to } => (from, format!("{{\"resourceVersion\":\"{rv}\"}}"), to),
        };
        out.reserve(self.bytes.len() + middle.len());
        out.extend_from_slice(&self.bytes[..head]);
        out.extend_from_slice(middle.as_bytes());
        out.extend_from_slice(&self.bytes[tail..]);
        Ok(())
    }

    /// Appends the object as an item of a typed list, which says for all of them what they are: with its
    /// `resourceVersion`, without `apiVersion` and `kind`.
    pub fn write_item_to(&self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let begun = out.len();
        out.reserve(self.bytes.len() + 48);
        let written = self.write_members(out);
        if written.is_err() {
            out.truncate(begun);
        }
        written
    }

    fn write_members(&self, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        let begun = out.len() + 1;
        let bytes = &self.bytes[..];
        let mut scan = Scan { bytes, at: 0 };
        scan.expect(b'{')?;
        out.push(b'{');
        let mut copied = scan.at;
        // Of `apiVersion`, `kind` and `metadata`; behind the last of them everything goes through.
        let mut wanted = 3;
        let mut has_metadata = false;
        scan.skip_space();
        while wanted > 0 && scan.peek() != Some(b'}') {
            let member = scan.at;
            let key = scan.string()?;
            scan.expect(b':')?;
            scan.skip_space();
            match &bytes[key.0..key.1] {
                b"metadata" => {
                    (wanted, has_metadata) = (wanted - 1, true);
                    let start = scan.at;
                    copied = self.splice(&mut scan, copied, out)?;
                    // In what we store `metadata` comes last of the three, and need not be stepped over.
                    if wanted > 0 {
                        scan.at = start;
                        scan.value()?;
                        scan.next_member()?;
                    }
                }
                b"apiVersion" | b"kind" => {
                    wanted -= 1;
                    out.extend_from_slice(&bytes[copied..member]);
                    scan.value()?;
                    if !scan.next_member()? && out.len() > begun && out.last() == Some(&b',') {
                        out.pop();
                    }
                    copied = scan.at;
                }
                _ => {
                    scan.value()?;
                    scan.next_member()?;
                }
            }
        }
        out.extend_from_slice(&bytes[copied..]);
        if !has_metadata && self.rv != 0 {
            let rest = out[begun..].iter().all(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b'}'));
            let metadata = format!("\"metadata\":{{\"resourceVersion\":\"{}\"}}{}", self.rv, comma(rest));
            out.splice(begun..begun, metadata.into_bytes());
        }
        Ok(())
    }

    /// Writes what stands from `copied` to the inside of `metadata`, where `scan` is, and the `resourceVersion`; answers
    /// what is to be copied next.
    fn splice(&self, scan: &mut Scan<'_>, copied: usize, out: &mut Vec<u8>) -> Result<usize, Unreadable> {
        let place = scan.place()?;
        if self.rv == 0 {
            return Ok(copied);
        }
        let rv = self.rv;
        Ok(match place {
            Place::InMetadata { at, empty } => {
                out.extend_from_slice(&self.bytes[copied..at]);
                out.extend_from_slice(format!("\"resourceVersion\":\"{rv}\"{}", comma(empty)).as_bytes());
                at
            }
            Place::Instead { from, to } => {
                out.extend_from_slice(&self.bytes[copied..from]);
                out.extend_from_slice(format!("{{\"resourceVersion\":\"{rv}\"}}").as_bytes());
                to
            }
            Place::InRoot { .. } => copied,
        })
    }

    /// The object with its `resourceVersion`.
    pub fn to_bytes(&self) -> Result<Bytes, Unreadable> {
        if self.rv == 0 {
            return Ok(self.bytes.clone());
        }
        let mut out = Vec::with_capacity(self.bytes.len() + 48);
        self.write_to(&mut out)?;
        Ok(out.into())
    }
}

fn comma(empty: bool) -> &'static str {
    if empty { "" } else { "," }
}

/// Walks the members of the outer object until it meets `metadata`.
fn find_metadata(bytes: &[u8]) -> Result<Place, Unreadable> {
    let mut scan = Scan { bytes, at: 0 };
    scan.expect(b'{')?;
    let start = scan.at;
    scan.skip_space();
    let empty = scan.peek() == Some(b'}');
    if empty {
        return Ok(Place::InRoot { at: start, empty });
    }
    loop {
        let key = scan.string()?;
        scan.expect(b':')?;
        scan.skip_space();
        if &bytes[key.0..key.1] == b"metadata" {
            return scan.place();
        }
        scan.value()?;
        if !scan.next_member()? {
            return Ok(Place::InRoot { at: start, empty: false });
        }
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unreadable> {
        self.skip_space();
        if self.peek() != Some(byte) {
            return Err(Unreadable { at: self.at });
        }
        self.at += 1;
        Ok(())
    }

    /// The bounds of a string's content, past its closing quote.
    fn string(&mut self) -> Result<(usize, usize), Unreadable> {
        self.expect(b'"')?;
        let start = self.at;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok((start, self.at - 1));
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        Err(Unreadable { at: self.at })
    }

    /// Steps over any value: containers by counting brackets outside of strings.
    fn value(&mut self) -> Result<(), Unreadable> {
        let mut depth = 0usize;
        loop {
            self.skip_space();
            match self.peek().ok_or(Unreadable { at: self.at })? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                b'}' | b']' | b',' | b':' => return Err(Unreadable { at: self.at }),
                _ => self.word(),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// Steps over the comma to the next member's key; says whether there is one.
    fn next_member(&mut self) -> Result<bool, Unreadable> {
        self.skip_space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.skip_space();
                Ok(true)
            }
            Some(b'}') => Ok(false),
            _ => Err(Unreadable { at: self.at }),
        }
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) {
        while !matches!(self.peek(), None | Some(b',' | b'}' | b']' | b':' | b' ' | b'\n' | b'\r' | b'\t' | b'"')) {
            self.at += 1;
        }
    }

    fn place(&mut self) -> Result<Place, Unreadable> {
        if self.peek() == Some(b'{') {
            let at = self.at + 1;
            self.at = at;
            self.skip_space();
            return Ok(Place::InMetadata { at, empty: self.peek() == Some(b'}') });
        }
        let from = self.at;
        self.value()?;
        Ok(Place::Instead { from, to: self.at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn spliced(text: &str, rv: u64) -> String {
        let bytes = Encoded::new(text.to_owned(), rv).to_bytes().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn splices() {
        assert_eq!(
            spliced(r#"{"a":1,"metadata":{"name":"x"}}"#, 7),
            r#"{"a":1,"metadata":{"resourceVersion":"7","name":"x"}}"#
        );
        assert_eq!(spliced(r#"{"metadata":{ }}"#, 7), r#"{"metadata":{"resourceVersion":"7" }}"#);
        assert_eq!(spliced(r#"{"metadata":null}"#, 7), r#"{"metadata":{"resourceVersion":"7"}}"#);
        assert_eq!(spliced("{}", 7), r#"{"metadata":{"resourceVersion":"7"}}"#);
        assert_eq!(
            spliced(r#"{"a":{"metadata":{}}}"#, 7),
            r#"{"metadata":{"resourceVersion":"7"},"a":{"metadata":{}}}"#
        );
        assert_eq!(spliced(r#"{"a":"}\"{"}"#, 0), r#"{"a":"}\"{"}"#);
    }

    #[test]
    fn items_of_a_list_say_not_what_they_are() {
        let item = |text: &str| {
            let mut out = b"[".to_vec();
            Encoded::new(text.to_owned(), 7).write_item_to(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let stored = r#"{"apiVersion":"v1","data":{"kind":"x"},"kind":"ConfigMap","metadata":{"name":"x"},"z":1}"#;
        assert_eq!(item(stored), r#"[{"data":{"kind":"x"},"metadata":{"resourceVersion":"7","name":"x"},"z":1}"#);
        let upstreams = r#"{"kind":"A","apiVersion":"v1","metadata":{},"spec":{}}"#;
        assert_eq!(item(upstreams), r#"[{"metadata":{"resourceVersion":"7"},"spec":{}}"#);
        assert_eq!(item(r#"{"metadata":null,"kind":"A"}"#), r#"[{"metadata":{"resourceVersion":"7"}}"#);
        assert_eq!(item(r#"{"kind":"A"}"#), r#"[{"metadata":{"resourceVersion":"7"}}"#);
        assert_eq!(item("{}"), r#"[{"metadata":{"resourceVersion":"7"}}"#);
        let mut out = b"kept".to_vec();
        assert!(Encoded::new("{\"kind\":", 7).write_item_to(&mut out).is_err());
        assert_eq!(out, b"kept");
    }

    #[test]
    fn refuses_what_is_no_object() {
        for text in ["", "[]", "{", "{\"a\"", "{\"a\":}", "{\"a\":\"x", "{\"a\":[1"] {
            assert!(Encoded::new(text.to_owned(), 1).to_bytes().is_err(), "{text}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z\"\\\\{}\\[\\],:é]{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"\\\\]{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect()))
            ]
        })
    }

    proptest! {
        #[test]
        fn equals_decoding_and_setting(fields in prop::collection::btree_map("[a-z]{1,4}", any_json(), 0..4),
                                       meta in prop::option::of(prop::collection::btree_map("[a-z]{1,4}", any_json(), 0..3))) {
            let mut object = Value::Object(fields.into_iter().collect());
            if let Some(meta) = meta {
                object["metadata"] = Value::Object(meta.into_iter().collect());
            }
            let encoded = Encoded::from_value(&object, 42);
            let read: Value = serde_json::from_slice(&encoded.to_bytes().unwrap()).unwrap();
            prop_assert_eq!(&read, &encoded.to_value().unwrap());
            prop_assert_eq!(read["metadata"]["resourceVersion"].clone(), json!("42"));
            for (name, at) in [("kind", 0), ("apiVersion", 1)] {
                let mut typed = serde_json::Map::new();
                let fields = encoded.to_value().unwrap();
                let fields = fields.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.clone()));
                let (before, after): (Vec<_>, Vec<_>) = fields.enumerate().partition(|(n, _)| *n < at);
                typed.extend(before.into_iter().map(|(_, field)| field));
                typed.insert(name.to_owned(), json!("X"));
                typed.extend(after.into_iter().map(|(_, field)| field));
                let mut out = Vec::new();
                Encoded::from_value(&Value::Object(typed), 42).write_item_to(&mut out).unwrap();
                prop_assert_eq!(&serde_json::from_slice::<Value>(&out).unwrap(), &read);
            }
        }
    }
}
