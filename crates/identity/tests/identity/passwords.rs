use std::net::IpAddr;

use rawdrive_identity::{HashCost, HashWaiting, PasswordError, PasswordHash, PasswordHasher};
use rawdrive_tenancy_core::{Env, StoreError};

use crate::memory::{CLIENT, WAITING, claimed, new_password};

fn hasher() -> PasswordHasher {
    PasswordHasher::new(HashCost::LEAST, 2, WAITING).expect("a cost")
}

/// Slow enough (some 10 ms) that none ends while the others are being admitted.
const SLOW: HashCost = HashCost {
    memory_kib: 4096,
    passes: 2,
    lanes: 1,
};

fn slow_hasher(at_once: usize, per_network: usize, in_total: usize) -> PasswordHasher {
    let waiting = HashWaiting {
        per_network,
        in_total,
    };
    PasswordHasher::new(SLOW, at_once, waiting).expect("a cost")
}

#[tokio::test]
async fn a_hash_verifies_its_own_password_alone_and_says_its_cost() {
    let env = Env::system();
    let hash = hasher()
        .hash(&new_password("correct horse"), &env, CLIENT)
        .await
        .unwrap();
    let twin = hasher()
        .hash(&new_password("correct horse"), &env, CLIENT)
        .await
        .unwrap();
    assert!(
        hash.expose().starts_with("$argon2id$v=19$m=8,t=1,p=1$"),
        "{}",
        hash.expose()
    );
    assert_ne!(hash, twin, "salted");
    assert_eq!(format!("{hash:?}"), "PasswordHash(…)");
    let user = env.id();
    assert!(
        hasher()
            .verify(user, &hash, &claimed("correct horse"), CLIENT)
            .await
            .unwrap()
    );
    for wrong in ["correct hors", "Correct horse", "correct horse ", ""] {
        assert!(
            !hasher()
                .verify(user, &hash, &claimed(wrong), CLIENT)
                .await
                .unwrap(),
            "{wrong:?}"
        );
    }
    hasher().verify_nothing(&claimed(""), CLIENT).await.unwrap();
    assert!(
        PasswordHasher::new(
            HashCost {
                memory_kib: 1,
                ..HashCost::OWASP
            },
            1,
            WAITING
        )
        .is_err()
    );
}

#[tokio::test]
async fn a_stored_text_that_is_no_hash_is_named_and_never_a_wrong_password() {
    let user = Env::system().id();
    for text in [
        "",
        "correct horse",
        "$argon2id$",
        "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ",
        "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=1,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$2b$12$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        let stored = PasswordHash::from_stored(text.into());
        let answer = hasher()
            .verify(user, &stored, &claimed("correct horse"), CLIENT)
            .await;
        match answer {
            Err(PasswordError::Store(StoreError::Corrupt {
                table, column, row, ..
            })) => {
                assert_eq!(
                    (table, column, row),
                    ("users", "password_hash", user.to_string())
                );
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

/// 'correct horse', hashed by the reference implementation (argon2-cffi 25), at costs and lengths that are not ours.
const REFERENCE: [&str; 3] = [
    "$argon2id$v=19$m=1024,t=2,p=1$c29tZXNhbHQ$MsBEdD4T5rfxwh6tuPHfX6xri3dDNYBo",
    "$argon2id$v=19$m=64,t=3,p=4$c2l4dGVlbiBieXRlIHNhbA$0yDI2lE/5RTW1jadswy2KMUouDjwWQuxhThWQ1dgvMc",
    "$argon2id$v=19$m=512,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY$ZAncwhDyO0Oxt47N4JLhkg",
];

#[tokio::test]
async fn what_the_reference_implementation_hashed_verifies() {
    let user = Env::system().id();
    for text in REFERENCE {
        let stored = PasswordHash::from_stored(text.into());
        let verify = async |password| {
            let claim = claimed(password);
            hasher()
                .verify(user, &stored, &claim, CLIENT)
                .await
                .unwrap()
        };
        assert!(verify("correct horse").await, "{text}");
        assert!(!verify("correct horsf").await, "{text}");
    }
}

#[tokio::test]
async fn more_of_one_network_than_may_wait_are_told_to_come_back() {
    let env = Env::system();
    let hasher = slow_hasher(2, 3, 64);
    let password = new_password("correct horse");
    let mut running: Vec<_> = (0..9)
        .map(|_| Box::pin(hasher.hash(&password, &env, CLIENT)))
        .collect();
    let answers = futures_join(&mut running).await;
    let busy = answers
        .iter()
        .filter(|a| matches!(a, Err(PasswordError::Busy)))
        .count();
    assert_eq!((answers.len(), busy), (9, 4));
    assert!(
        hasher.hash(&password, &env, CLIENT).await.is_ok(),
        "the places come back"
    );
}

#[tokio::test]
async fn whoever_crowds_keeps_nobody_else_waiting() {
    let env = Env::system();
    let hasher = slow_hasher(2, 64, 64);
    let password = new_password("correct horse");
    let address = |n: u8| IpAddr::from([198, 51, 100, n]);
    // Eighty of one client: 2 run, 64 wait, 14 are refused; and they fill the queue.
    let mut all: Vec<_> = (0..80)
        .map(|_| Box::pin(hasher.hash(&password, &env, CLIENT)))
        .collect();
    all.extend((1..=30).map(|n| Box::pin(hasher.hash(&password, &env, address(n)))));
    let mut order = Vec::new();
    let answers = in_order(&mut all, &mut order).await;
    let (crowd, others) = answers.split_at(80);
    assert!(others.iter().all(Result::is_ok), "everybody else is served");
    let refused = crowd.iter().filter(|answer| answer.is_err()).count();
    assert_eq!(refused, 14 + 30, "the youngest of the crowd gave way");
    // In turns: the crowd gets one for each of the others' one, besides the two that ran already.
    let last_other = order.iter().rposition(|n| *n >= 80).unwrap();
    let served_before = order[..last_other]
        .iter()
        .filter(|n| **n < 80 && answers[**n].is_ok())
        .count();
    assert!(
        served_before <= 6,
        "{served_before} of the crowd came before them"
    );
}

#[tokio::test]
async fn the_waiting_request_that_is_dropped_gives_its_place_back() {
    let env = Env::system();
    let hasher = slow_hasher(1, 1, 1);
    let password = new_password("correct horse");
    let mut first = Box::pin(hasher.hash(&password, &env, CLIENT));
    let mut second = Box::pin(hasher.hash(&password, &env, CLIENT));
    std::future::poll_fn(|context| {
        assert!(first.as_mut().poll(context).is_pending());
        assert!(second.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    assert!(matches!(
        hasher.hash(&password, &env, CLIENT).await,
        Err(PasswordError::Busy)
    ));
    drop(second);
    let (first, third) = tokio::join!(first, hasher.hash(&password, &env, CLIENT));
    assert!(first.is_ok() && third.is_ok());
    // And one that is dropped while it runs gives its buffer back.
    let mut dropped = Box::pin(hasher.hash(&password, &env, CLIENT));
    std::future::poll_fn(|context| {
        assert!(dropped.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    drop(dropped);
    assert!(hasher.hash(&password, &env, CLIENT).await.is_ok());
}

/// Polls all at once: each is admitted or refused in its first poll.
async fn futures_join<F: Future + Unpin>(futures: &mut [F]) -> Vec<F::Output> {
    in_order(futures, &mut Vec::new()).await
}

/// As [`futures_join`], and says in which order they ended.
async fn in_order<F: Future + Unpin>(futures: &mut [F], order: &mut Vec<usize>) -> Vec<F::Output> {
    let mut answers: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (n, (future, answer)) in futures.iter_mut().zip(&mut answers).enumerate() {
            if answer.is_none()
                && let std::task::Poll::Ready(output) = std::pin::Pin::new(future).poll(context)
            {
                *answer = Some(output);
                order.push(n);
            }
        }
        if answers.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    answers.into_iter().flatten().collect()
}
