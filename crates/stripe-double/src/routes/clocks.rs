//! Test clocks: time for some customers, which moves when it is told to.

use serde_json::{Value, json};

use super::{list_of, retrieve};
use crate::calendar::DAY;
use crate::engine::cycling;
use crate::json::{Fields as _, set};
use crate::state::{Kind, World};
use crate::wire::error::{Answer, ApiError};
use crate::wire::list;
use crate::wire::params::Params;

pub(super) fn route(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("POST", []) => create(world, params),
        ("GET", []) => params.only(&list::PAGING).and_then(|()| {
            list_of(
                world,
                Kind::TestClock,
                "/v1/test_helpers/test_clocks",
                params,
                |_| true,
            )
        }),
        ("GET", [id]) => retrieve(world, Kind::TestClock, id, params),
        ("POST", [id, "advance"]) => advance(world, id, params),
        ("DELETE", [id]) => delete(world, id, params),
        _ => return None,
    })
}

fn create(world: &mut World, params: &Params) -> Answer {
    params.only(&["frozen_time", "name"])?;
    let frozen = frozen_time(params)?;
    let id = world.new_id(Kind::TestClock);
    let clock = json!({
        "id": id,
        "object": "test_helpers.test_clock",
        "created": world.now,
        "deletes_after": world.now + 30 * DAY,
        "frozen_time": frozen,
        "livemode": false,
        "name": params.text("name")?,
        "status": "ready",
        "status_details": {},
    });
    world.insert(Kind::TestClock, clock);
    world.emit("test_helpers.test_clock.created", &id);
    Ok(world.copy(&id))
}

fn frozen_time(params: &Params) -> Result<i64, ApiError> {
    let time = params.integer("frozen_time")?;
    time.ok_or_else(|| ApiError::parameter_missing("frozen_time"))
}

/// Begins to advance. What is due in between is done afterwards, and the clock becomes `ready` then.
fn advance(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&["frozen_time"])?;
    let clock = world.find(Kind::TestClock, id, "test_clock", true)?;
    let target = frozen_time(params)?;
    if clock.text("status") == "advancing" {
        return Err(ApiError::new(
            429,
            "invalid_request_error",
            "Test clock advancement underway - cannot perform modifications.",
        )
        .code("lock_timeout"));
    }
    if target <= clock.number("frozen_time") {
        return Err(ApiError::invalid(
            "frozen_time must be greater than the current frozen_time of the test clock.",
        )
        .param("frozen_time"));
    }
    world.edit(id, |clock| {
        set(clock, "status", "advancing");
        clock["status_details"] = json!({ "advancing": { "target_frozen_time": target } });
    });
    world.emit("test_helpers.test_clock.advancing", id);
    Ok(world.copy(id))
}

/// Deleting a clock deletes its customers, and cancels what they subscribed to.
fn delete(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    world.find(Kind::TestClock, id, "test_clock", true)?;
    let owned = |object: &&Value| object.link("test_clock") == Some(id);
    let live = world
        .all(Kind::Subscription)
        .filter(owned)
        .filter(|s| s.text("status") != "canceled");
    let live: Vec<_> = live.map(|s| s.text("id").to_owned()).collect();
    for subscription in live {
        cycling::cancel_now(world, &subscription, "cancellation_requested");
    }
    let customers = world.all(Kind::Customer).filter(owned);
    let customers: Vec<_> = customers.map(|c| c.text("id").to_owned()).collect();
    for customer in customers {
        world.emit("customer.deleted", &customer);
        let deleted = json!({ "id": customer, "object": "customer", "deleted": true });
        world.edit(&customer, |customer| *customer = deleted);
    }
    world.emit("test_helpers.test_clock.deleted", id);
    world.forget(id);
    Ok(json!({ "id": id, "object": "test_helpers.test_clock", "deleted": true }))
}
