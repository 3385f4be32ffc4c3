use serde_json::Value;
use ulid::Ulid;

use crate::format::reference::tests::sample;
use crate::format::{FormatError, Reference};

/// What a release without sums makes of an object: unknown fields are carried along, and a swap leaves its nonce.
fn swapped_by_an_older_release(object: &[u8], nonce: Ulid) -> Vec<u8> {
    let mut reference: Reference = serde_json::from_slice(object).unwrap();
    assert!(reference.other.contains_key("sum"));
    reference.stopped = !reference.stopped;
    reference.sign(nonce);
    serde_json::to_vec(&reference).unwrap()
}

fn is_damaged(object: &[u8]) -> bool {
    matches!(Reference::parse(object), Err(FormatError::Damaged(reason)) if reason.contains("checksum"))
}

/// A ref with as many nonces as are kept.
fn long() -> Reference {
    let mut reference = sample();
    for number in 10..40 {
        reference.sign(Ulid::from_parts(number, number.into()));
    }
    reference
}

#[test]
fn no_bit_flips_unnoticed() {
    for reference in [sample(), long()] {
        let object = reference.to_bytes();
        let (mut noticed, mut the_same, mut carried) = (0, 0, 0);
        for at in 0..object.len() {
            for bit in 0..8 {
                let mut flipped = object.clone();
                flipped[at] ^= 1 << bit;
                match Reference::parse(&flipped) {
                    Err(_) => noticed += 1,
                    Ok(read) if read == reference => the_same += 1,
                    // The bit was in the name of the field: then it is one that nobody knows, and all the rest is right.
                    Ok(read) => {
                        assert_eq!(Reference { other: reference.other.clone(), ..read }, reference, "{at} {bit}");
                        carried += 1;
                    }
                }
            }
        }
        assert!(noticed > 8 * object.len() * 9 / 10, "{noticed} noticed, {the_same} the same, {carried} carried");
        assert!(carried <= 3 * 8, "{carried}");
    }
}

#[test]
fn cut_or_patched_objects_are_damaged() {
    let object = String::from_utf8(sample().to_bytes()).unwrap();
    assert!(is_damaged(object.replace(r#""current":2"#, r#""current":3"#).as_bytes()));
    assert!(is_damaged(object.replace("v2.0", "v2.1").as_bytes()));
    assert!(is_damaged(object.replace(r#"{"format":1,"#, r#"{"format":1, "#).as_bytes()), "not even a space");
    assert!(is_damaged(object.replace(r#""blake3":""#, r#""blake3":"0"#).as_bytes()));
    assert!(is_damaged(object.replace(r#""swap":""#, r#""other":""#).as_bytes()));
}

#[test]
fn what_an_older_release_carries_along_is_stale_and_no_damage() {
    let mut object = sample().to_bytes();
    // As often as it may be, until the nonce that the sum names is pushed out, and beyond.
    for number in 100..140 {
        object = swapped_by_an_older_release(&object, Ulid::from_parts(number, 1));
        let read = Reference::parse(&object).unwrap();
        assert!(read.other.is_empty(), "the stale sum would be written again");
        // The next swap by this release has a sum of its own.
        let mut next = read.clone();
        next.sign(Ulid::from_parts(number, 2));
        let written = next.to_bytes();
        assert_eq!(Reference::parse(&written), Ok(next));
        assert_eq!(String::from_utf8(written).unwrap().matches(r#""sum":"#).count(), 1);
    }
}

#[test]
fn a_damaged_nonce_is_not_taken_for_a_later_swap() {
    for reference in [sample(), long()] {
        let text = String::from_utf8(reference.to_bytes()).unwrap();
        let last = reference.nonces.last().unwrap().to_string();
        let other = Ulid::from_parts(7, 7).to_string();
        assert!(is_damaged(text.replacen(&last, &other, 1).as_bytes()));
        // In the sum itself it does no harm: the digest is right.
        let (front, back) = text.rsplit_once(&last).unwrap();
        assert_eq!(Reference::parse(format!("{front}{other}{back}").as_bytes()), Ok(reference));
    }
}

#[test]
fn refs_without_a_sum_are_read() {
    let object: Value = serde_json::from_slice(&sample().to_bytes()).unwrap();
    let mut bare = object.clone();
    bare.as_object_mut().unwrap().remove("sum").unwrap();
    assert_eq!(Reference::parse(bare.to_string().as_bytes()), Ok(sample()));
    // And what has no nonce yet gets none.
    let mut unsigned = sample();
    unsigned.nonces.clear();
    assert!(!String::from_utf8(unsigned.to_bytes()).unwrap().contains("sum"));
}
