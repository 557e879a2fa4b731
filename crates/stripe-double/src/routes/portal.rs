//! The billing portal: configurations and sessions; the hosted page does the rest.

use serde_json::{Value, json};

use super::{list_of, list_params, retrieve};
use crate::json::{Fields as _, set};
use crate::state::{Kind, World};
use crate::wire::error::{Answer, ApiError};
use crate::wire::params::Params;

pub(super) fn sessions(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    match (method, path) {
        ("POST", []) => Some(create_session(world, params)),
        _ => None,
    }
}

fn create_session(world: &mut World, params: &Params) -> Answer {
    params.only(&["configuration", "customer", "locale", "return_url"])?;
    let customer = params.require("customer")?;
    world.find(Kind::Customer, &customer, "customer", false)?;
    let configuration = match params.text("configuration")? {
        Some(id) => {
            world.find(Kind::PortalConfiguration, &id, "configuration", false)?;
            id
        }
        None => default_configuration(world).ok_or_else(|| {
            ApiError::invalid(
                "No configuration provided and your test mode default configuration has not been created. Provide a configuration or create your default by saving your customer portal settings in test mode at https://dashboard.stripe.com/test/settings/billing/portal.",
            )
        })?,
    };
    let defaults = world.copy(&configuration);
    let return_url = match params.text("return_url")? {
        Some(url) => json!(url),
        None => defaults["default_return_url"].clone(),
    };
    let id = world.new_id(Kind::PortalSession);
    let session = json!({
        "id": id,
        "object": "billing_portal.session",
        "configuration": configuration,
        "created": world.now,
        "customer": customer,
        "customer_account": null,
        "flow": null,
        "livemode": false,
        "locale": params.text("locale")?,
        "on_behalf_of": null,
        "return_url": return_url,
        "url": format!("{}/p/session/{id}", world.base_url),
    });
    world.insert(Kind::PortalSession, session);
    world.emit("billing_portal.session.created", &id);
    Ok(world.copy(&id))
}

/// The configuration that somebody has saved in the dashboard; a new account has none.
fn default_configuration(world: &mut World) -> Option<String> {
    let is_default = |configuration: &&Value| configuration.flag("is_default");
    let found = world.all(Kind::PortalConfiguration).find(is_default);
    if let Some(id) = found.map(|configuration| configuration.text("id").to_owned()) {
        return Some(id);
    }
    if !world.account.portal_saved {
        return None;
    }
    let mut configuration = new_configuration(world);
    set(&mut configuration, "is_default", true);
    Some(world.insert(Kind::PortalConfiguration, configuration))
}

fn new_configuration(world: &World) -> Value {
    json!({
        "id": world.new_id(Kind::PortalConfiguration),
        "object": "billing_portal.configuration",
        "active": true,
        "application": null,
        "business_profile": {
            "headline": null,
            "privacy_policy_url": null,
            "terms_of_service_url": null,
        },
        "created": world.now,
        "default_return_url": null,
        "features": {
            "customer_update": { "allowed_updates": [], "enabled": false },
            "invoice_history": { "enabled": true },
            "payment_method_update": { "enabled": true, "payment_method_configuration": null },
            "subscription_cancel": {
                "cancellation_reason": {
                    "enabled": false,
                    "feedback_options": null,
                    "options": [],
                },
                "enabled": true,
                "mode": "at_period_end",
                "proration_behavior": "none",
            },
            "subscription_update": {
                "billing_cycle_anchor": null,
                "default_allowed_updates": [],
                "enabled": false,
                "proration_behavior": "none",
                "schedule_at_period_end": { "conditions": [] },
                "trial_update_behavior": "end_trial",
            },
        },
        "is_default": false,
        "livemode": false,
        "login_page": { "enabled": false, "url": null },
        "metadata": {},
        "name": null,
        "updated": world.now,
    })
}

pub(super) fn configurations(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("POST", []) => create_configuration(world, params),
        ("GET", []) => list_configurations(world, params),
        ("GET", [id]) => retrieve(world, Kind::PortalConfiguration, id, params),
        ("POST", [id]) => update_configuration(world, id, params),
        _ => return None,
    })
}

fn create_configuration(world: &mut World, params: &Params) -> Answer {
    if params.child("features").is_none() {
        return Err(ApiError::parameter_missing("features"));
    }
    let mut configuration = new_configuration(world);
    // What is not named is off.
    for feature in [
        "invoice_history",
        "payment_method_update",
        "subscription_cancel",
    ] {
        configuration["features"][feature]["enabled"] = json!(false);
    }
    apply(&mut configuration, params)?;
    let id = world.insert(Kind::PortalConfiguration, configuration);
    world.emit("billing_portal.configuration.created", &id);
    Ok(world.copy(&id))
}

fn update_configuration(world: &mut World, id: &str, params: &Params) -> Answer {
    let mut configuration = world.find(Kind::PortalConfiguration, id, "configuration", true)?;
    apply(&mut configuration, params)?;
    set(&mut configuration, "updated", world.now);
    world.update(id, "billing_portal.configuration.updated", |stored| {
        *stored = configuration;
    });
    Ok(world.copy(id))
}

fn apply(configuration: &mut Value, params: &Params) -> Result<(), ApiError> {
    params.only(&[
        "active",
        "business_profile",
        "default_return_url",
        "features",
        "metadata",
        "name",
    ])?;
    if let Some(active) = params.boolean("active")? {
        set(configuration, "active", active);
    }
    super::set_texts(configuration, params, &["default_return_url", "name"])?;
    if let Some(profile) = params.child("business_profile") {
        let keys = ["headline", "privacy_policy_url", "terms_of_service_url"];
        profile.only(&keys)?;
        super::set_texts(&mut configuration["business_profile"], &profile, &keys)?;
    }
    if let Some(features) = params.child("features") {
        apply_features(&mut configuration["features"], &features)?;
    }
    params.merge_metadata(configuration)
}

fn apply_features(features: &mut Value, params: &Params) -> Result<(), ApiError> {
    params.only(&[
        "customer_update",
        "invoice_history",
        "payment_method_update",
        "subscription_cancel",
        "subscription_update",
    ])?;
    for name in [
        "customer_update",
        "invoice_history",
        "payment_method_update",
        "subscription_cancel",
        "subscription_update",
    ] {
        let Some(feature) = params.child(name) else {
            continue;
        };
        if let Some(enabled) = feature.boolean("enabled")? {
            features[name]["enabled"] = json!(enabled);
        }
    }
    if let Some(update) = params.child("customer_update")
        && update.has("allowed_updates")
    {
        features["customer_update"]["allowed_updates"] = json!(update.texts("allowed_updates"));
    }
    if let Some(cancel) = params.child("subscription_cancel") {
        if let Some(mode) = cancel.one_of("mode", &["at_period_end", "immediately"])? {
            features["subscription_cancel"]["mode"] = json!(mode);
        }
        let behaviors = ["always_invoice", "create_prorations", "none"];
        if let Some(behavior) = cancel.one_of("proration_behavior", &behaviors)? {
            features["subscription_cancel"]["proration_behavior"] = json!(behavior);
        }
    }
    Ok(())
}

fn list_configurations(world: &mut World, params: &Params) -> Answer {
    params.only(&list_params(&["active", "is_default"]))?;
    default_configuration(world);
    let active = params.boolean("active")?;
    let is_default = params.boolean("is_default")?;
    list_of(
        world,
        Kind::PortalConfiguration,
        "/v1/billing_portal/configurations",
        params,
        |configuration| {
            active.is_none_or(|active| configuration.flag("active") == active)
                && is_default.is_none_or(|wanted| configuration.flag("is_default") == wanted)
        },
    )
}
