use rawdrive_identity::{HashCost, PasswordError, PasswordHash, PasswordHasher};
use rawdrive_tenancy_core::{Ambient, StoreError};

use crate::memory::{claimed, new_password};

fn hasher() -> PasswordHasher {
    PasswordHasher::new(HashCost::LEAST, 2, 64).expect("a cost")
}

#[tokio::test]
async fn a_hash_verifies_its_own_password_alone_and_says_its_cost() {
    let ambient = Ambient::system();
    let hash = hasher()
        .hash(&new_password("correct horse"), &ambient)
        .await
        .unwrap();
    let twin = hasher()
        .hash(&new_password("correct horse"), &ambient)
        .await
        .unwrap();
    assert!(
        hash.expose().starts_with("$argon2id$v=19$m=8,t=1,p=1$"),
        "{}",
        hash.expose()
    );
    assert_ne!(hash, twin, "salted");
    assert_eq!(format!("{hash:?}"), "PasswordHash(…)");
    let user = ambient.id();
    assert!(
        hasher()
            .verify(user, &hash, &claimed("correct horse"))
            .await
            .unwrap()
    );
    for wrong in ["correct hors", "Correct horse", "correct horse ", ""] {
        assert!(
            !hasher().verify(user, &hash, &claimed(wrong)).await.unwrap(),
            "{wrong:?}"
        );
    }
    hasher().verify_nothing(&claimed("")).await.unwrap();
    assert!(
        PasswordHasher::new(
            HashCost {
                memory_kib: 1,
                ..HashCost::OWASP
            },
            1,
            1
        )
        .is_err()
    );
}

#[tokio::test]
async fn a_stored_text_that_is_no_hash_is_named_and_never_a_wrong_password() {
    let user = Ambient::system().id();
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
            .verify(user, &stored, &claimed("correct horse"))
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

#[tokio::test]
async fn more_than_may_wait_are_told_to_come_back() {
    let ambient = Ambient::system();
    // Slow enough (some 10 ms) that none ends while the others are being admitted.
    let cost = HashCost {
        memory_kib: 4096,
        passes: 2,
        lanes: 1,
    };
    let hasher = PasswordHasher::new(cost, 2, 3).unwrap();
    let password = new_password("correct horse");
    let mut running: Vec<_> = (0..9)
        .map(|_| Box::pin(hasher.hash(&password, &ambient)))
        .collect();
    let answers = futures_join(&mut running).await;
    let busy = answers
        .iter()
        .filter(|a| matches!(a, Err(PasswordError::Busy)))
        .count();
    assert_eq!((answers.len(), busy), (9, 4));
    assert!(
        hasher.hash(&password, &ambient).await.is_ok(),
        "the permits come back"
    );
}

/// Polls all at once: each is admitted or refused in its first poll.
async fn futures_join<F: Future + Unpin>(futures: &mut [F]) -> Vec<F::Output> {
    let mut answers: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, answer) in futures.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let std::task::Poll::Ready(output) = std::pin::Pin::new(future).poll(context)
            {
                *answer = Some(output);
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

#[tokio::test]
async fn the_waiting_request_that_is_dropped_gives_its_place_back() {
    let ambient = Ambient::system();
    let cost = HashCost {
        memory_kib: 4096,
        passes: 2,
        lanes: 1,
    };
    let hasher = PasswordHasher::new(cost, 1, 1).unwrap();
    let password = new_password("correct horse");
    let mut first = Box::pin(hasher.hash(&password, &ambient));
    let mut second = Box::pin(hasher.hash(&password, &ambient));
    std::future::poll_fn(|context| {
        assert!(first.as_mut().poll(context).is_pending());
        assert!(second.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    assert!(matches!(
        hasher.hash(&password, &ambient).await,
        Err(PasswordError::Busy)
    ));
    drop(second);
    let (first, third) = tokio::join!(first, hasher.hash(&password, &ambient));
    assert!(first.is_ok() && third.is_ok());
}
