//! The checksum at the end of a ref: `"sum":{"swap":…,"blake3":…}`, always its last field.
//!
//! The digest is that of the object without this field, byte for byte. Releases that don't know it carry it along as they do any
//! field, and so leave a sum behind that is not of what they wrote. `swap` tells: it is the nonce of the swap that wrote the sum,
//! and whoever swaps adds a nonce. A sum whose nonce has a later one behind it is not of this object, and says nothing.

use ulid::Ulid;

use super::{FormatError, NONCES};
use crate::format::Hash;

/// The field's name.
pub(super) const FIELD: &str = "sum";
const BEFORE_NONCE: &[u8] = br#","sum":{"swap":""#;
const BEFORE_HASH: &[u8] = br#"","blake3":""#;
const END: &[u8] = br#""}}"#;
const NONCE: usize = ulid::ULID_LEN;
const HASH: usize = 64;

/// Puts the sum at the end of an object that has none.
pub(super) fn append(object: &mut Vec<u8>, nonce: Ulid) {
    let hash = Hash::of(object);
    if object.pop().is_some() {
        object.extend_from_slice(BEFORE_NONCE);
        object.extend_from_slice(nonce.to_string().as_bytes());
        object.extend_from_slice(BEFORE_HASH);
        object.extend_from_slice(hash.to_string().as_bytes());
        object.extend_from_slice(END);
    }
}

/// What the object is without its sum, the nonce, and the digest. Nothing where it does not end with a sum.
fn split(object: &[u8]) -> Option<(Vec<u8>, &[u8], Hash)> {
    let rest = object.strip_suffix(END)?;
    let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(HASH)?)?;
    let rest = rest.strip_suffix(BEFORE_HASH)?;
    let (rest, nonce) = rest.split_at_checked(rest.len().checked_sub(NONCE)?)?;
    let rest = rest.strip_suffix(BEFORE_NONCE)?;
    let hash = std::str::from_utf8(hash).ok()?.parse().ok()?;
    Some(([rest, b"}"].concat(), nonce, hash))
}

/// Whether the object is what its last writer wrote. `found` is the field's value, if it has one.
pub(super) fn verify(object: &[u8], found: Option<&serde_json::Value>, nonces: &[Ulid]) -> Result<(), FormatError> {
    let Some(found) = found else { return Ok(()) };
    let damaged = || Err(FormatError::damaged("its bytes are not those that were written: its checksum is another"));
    let parts = split(object);
    if parts.as_ref().is_some_and(|(bare, _, hash)| Hash::of(bare) == *hash) {
        return Ok(());
    }
    let Some(nonce) = found["swap"].as_str().and_then(|text| text.parse::<Ulid>().ok()) else { return damaged() };
    match nonces.iter().rposition(|other| *other == nonce) {
        // Swaps by a release that knows no sums came after it.
        Some(at) if at + 1 < nonces.len() => Ok(()),
        // Its nonce was pushed out by so many such swaps; unless it is the last nonce that was damaged.
        None if nonces.len() >= NONCES && !is_with(parts, nonce) => Ok(()),
        Some(_) | None => damaged(),
    }
}

/// Whether the object is what was written once its last nonce is replaced.
fn is_with(parts: Option<(Vec<u8>, &[u8], Hash)>, nonce: Ulid) -> bool {
    let Some((mut bare, _, hash)) = parts else { return false };
    // By its place: what is damaged need not read as it was written.
    let find = |from: usize, text: &[u8]| {
        bare[from..].windows(text.len()).position(|window| window == text).map(|at| from + at)
    };
    let Some(end) = find(0, br#""nonces":["#).and_then(|start| find(start, br#""]"#)) else { return false };
    let Some(start) = end.checked_sub(NONCE) else { return false };
    bare[start..end].copy_from_slice(nonce.to_string().as_bytes());
    Hash::of(&bare) == hash
}

#[cfg(test)]
mod tests;
