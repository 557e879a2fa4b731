use chrono::{DateTime, TimeDelta};
use rawdrive_tenancy_core::audit::{
    ChainBreak, Change, Entry, GENESIS, Payload, chain_hash, verify,
};
use serde_json::{Value, json};

fn change() -> Change {
    Change {
        action: "plan.changed",
        subject: "ws_1".to_owned(),
        before: Value::Null,
        after: json!({ "plan": "pro" }),
    }
}

fn entry() -> Entry {
    let payload = Payload::of(&change(), [7; 16]);
    Entry {
        seq: 1,
        at: DateTime::UNIX_EPOCH + TimeDelta::microseconds(1_790_000_000_000_001),
        actor: "system:operator".to_owned(),
        action: change().action.to_owned(),
        subject: change().subject,
        payload_hash: payload.hash(),
        hash: GENESIS,
        payload: Some(payload),
    }
}

fn hex(hash: [u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn hashes_are_what_an_auditor_computes() {
    let payload = Payload::of(&change(), [7; 16]);
    assert_eq!(payload.text, r#"{"after":{"plan":"pro"},"before":null}"#);
    // SHA-256 of 16 bytes of 7 and that text.
    assert_eq!(
        hex(payload.hash()),
        "64278cdf216f1ac37ec7b9147871b17a0e70949638073ffb23270e6cf4c3476a"
    );
    // SHA-256 of the seven fields, each behind its length in eight bytes.
    assert_eq!(
        hex(chain_hash(&GENESIS, &entry())),
        "fde2a46653d684eeb6032af6dbfeea345bc195e856e74d81f6b333cff781f536"
    );
}

#[test]
fn every_field_is_part_of_the_hash() {
    let original = entry();
    let hash = chain_hash(&GENESIS, &original);
    let changes: [fn(&mut Entry); 6] = [
        |e| e.seq += 1,
        |e| e.at += TimeDelta::microseconds(1),
        |e| e.actor.push('x'),
        |e| e.action.push('x'),
        |e| e.subject.push('x'),
        |e| e.payload_hash[0] ^= 1,
    ];
    for change in changes {
        let mut altered = original.clone();
        change(&mut altered);
        assert_ne!(chain_hash(&GENESIS, &altered), hash, "{altered:?}");
    }
    assert_ne!(chain_hash(&[1; 32], &original), hash);
    // What moves from one field to the next is another entry.
    let mut moved = original.clone();
    (moved.actor, moved.action) = ("system:operatorplan".to_owned(), ".changed".to_owned());
    assert_ne!(chain_hash(&GENESIS, &moved), hash);
    // What can be erased is not.
    let erased = Entry {
        payload: None,
        ..original
    };
    assert_eq!(chain_hash(&GENESIS, &erased), hash);
}

#[test]
fn a_head_says_where_a_chain_ends() {
    let mut only = entry();
    only.hash = chain_hash(&GENESIS, &only);
    let head = (1, only.hash);
    let chain = std::slice::from_ref(&only);
    assert_eq!(verify(chain, head), Ok(()));
    let cut = |expected, found| Err(ChainBreak::Cut { expected, found });
    assert_eq!(verify(chain, (1, GENESIS)), cut(1, 1));
    assert_eq!(verify(chain, (2, only.hash)), cut(2, 1));
    assert_eq!(verify(&[], head), cut(1, 0));
    let late = Entry { seq: 2, ..only };
    let gap = ChainBreak::Gap {
        expected: 1,
        found: 2,
    };
    assert_eq!(verify(&[late], head), Err(gap));
}
