//! Adopting what exists: customers and subscriptions that a business had at the provider before it had this.
//!
//! A customer is linked to one workspace, for ever. So nothing is guessed: what is not clear is reported and left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rawdrive_plans::PlansTx as _;
use rawdrive_tenancy_core::id::WorkspaceId;

use crate::event::{ObjectKind, ObjectRef};
use crate::gateway::{CustomerQuery, PaymentGateway};
use crate::ids::{CustomerId, SubscriptionId};
use crate::money::Currency;
use crate::ports::{BillingStore, BillingTx as _, Inbox, Sold};
use crate::price_catalog::PriceCatalog;
use crate::provider_objects::{CustomerSnapshot, SubscriptionSnapshot};
use crate::reconcile::{Heal, ReconcileError, link};
use crate::sync_worker::{Billing, book, scope};

/// By what a customer's workspace is known.
#[derive(Debug, Clone, Default)]
pub struct Provenance {
    /// What an operator has written down. It stands above everything else.
    pub pairs: BTreeMap<CustomerId, WorkspaceId>,
    /// Workspaces by an owner's *verified* address: another would give a subscription to whoever types its payer's.
    pub owners: Vec<(WorkspaceId, String)>,
}

/// How a customer's workspace was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    /// An operator's pair.
    Pair,
    /// What the customer's metadata names.
    Metadata,
    /// An owner's verified address.
    Address,
}

impl FoundBy {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Metadata => "metadata",
            Self::Address => "address",
        }
    }
}

/// A subscription of an adopted customer that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedSubscription {
    /// Which.
    pub id: SubscriptionId,
    /// What it sells here; nothing for prices and products that the catalogue does not name, which grant nothing.
    pub sold: Option<Sold>,
}

/// What became of a customer that was linked to no workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adoption {
    /// It is linked; in a dry run it would be.
    Linked {
        /// Which.
        customer: CustomerId,
        /// To which.
        workspace: WorkspaceId,
        /// Why to this one.
        found_by: FoundBy,
        /// What comes with it.
        subscriptions: Vec<AdoptedSubscription>,
    },
    /// Its workspace has another customer. Left.
    HasAnother {
        /// Which.
        customer: CustomerId,
        /// The workspace.
        workspace: WorkspaceId,
    },
    /// It pays in a currency that is not its workspace's. Left.
    OtherCurrency {
        /// Which.
        customer: CustomerId,
        /// The workspace.
        workspace: WorkspaceId,
        /// What it pays in.
        currency: Currency,
    },
    /// Several workspaces have an owner of its address, or several customers that pay have it. Left.
    Ambiguous {
        /// Which.
        customer: CustomerId,
        /// Those with such an owner.
        workspaces: Vec<WorkspaceId>,
    },
    /// Nothing says whose it is, or the workspace that is named is not there. Left.
    NoWorkspace {
        /// Which.
        customer: CustomerId,
    },
    /// A pair names a customer that the provider does not know, or that is linked already.
    NotThere {
        /// Which.
        customer: CustomerId,
    },
}

impl fmt::Display for Adoption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linked {
                customer,
                workspace,
                found_by,
                subscriptions,
            } => {
                write!(f, "{customer}: to {workspace}, by {}", found_by.as_str())?;
                for AdoptedSubscription { id, sold } in subscriptions {
                    match sold {
                        Some(Sold { plan, version }) => write!(f, "; {id} is {plan}@{version}")?,
                        None => write!(
                            f,
                            "; {id} grants nothing: no plan in force names its price or product"
                        )?,
                    }
                }
                Ok(())
            }
            Self::HasAnother {
                customer,
                workspace,
            } => write!(f, "{customer}: left, {workspace} has another"),
            Self::OtherCurrency {
                customer,
                workspace,
                currency,
            } => write!(
                f,
                "{customer}: left, it pays in {currency} and {workspace} does not"
            ),
            Self::Ambiguous { customer, .. } => write!(
                f,
                "{customer}: left, its address is that of several workspaces or customers"
            ),
            Self::NoWorkspace { customer } => {
                write!(f, "{customer}: left, nothing says whose it is")
            }
            Self::NotThere { customer } => write!(
                f,
                "{customer}: is not at the provider, or is linked already"
            ),
        }
    }
}

/// Links customers of the provider that are linked to no workspace to the one that they are known to be of, and makes
/// their subscriptions dirty: the worker projects them. What can be told is told, linked or left. Doing it again does
/// what is left to do.
///
/// # Errors
/// [`ReconcileError`]; what was linked before stays so.
pub async fn adopt<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    known: &Provenance,
    heal: Heal,
) -> Result<Vec<Adoption>, ReconcileError> {
    let unlinked = unlinked(billing).await?;
    let mut adopting = Adopting {
        billing,
        heal,
        book: book(billing).await?,
        taken: BTreeSet::new(),
        told: Vec::new(),
    };
    for customer in known.pairs.keys() {
        if !unlinked.iter().any(|there| there.id == *customer) {
            let customer = customer.clone();
            adopting.told.push(Adoption::NotThere { customer });
        }
    }
    // Those of one address are looked at together; what is named comes first, and may take the workspace.
    let mut by_address: BTreeMap<String, Vec<CustomerSnapshot>> = BTreeMap::new();
    for customer in unlinked {
        let paired = known.pairs.get(&customer.id);
        let paired = paired.map(|workspace| (*workspace, FoundBy::Pair));
        let marked = customer.metadata.workspace();
        let marked = marked.map(|workspace| (workspace, FoundBy::Metadata));
        if let Some((workspace, found_by)) = paired.or(marked) {
            adopting.take(workspace, &customer, found_by).await?;
            continue;
        }
        match &customer.email {
            Some(email) => by_address
                .entry(email.to_lowercase())
                .or_default()
                .push(customer),
            None => adopting.told.push(Adoption::NoWorkspace {
                customer: customer.id,
            }),
        }
    }
    for (address, customers) in by_address {
        let owned = known.owners.iter();
        let owned = owned.filter(|(_, owner)| owner.to_lowercase() == address);
        let workspaces: BTreeSet<_> = owned.map(|(workspace, _)| *workspace).collect();
        adopting.by_address(&workspaces, &customers).await?;
    }
    Ok(adopting.told)
}

/// Every customer that is linked to no workspace and was not deleted.
async fn unlinked<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
) -> Result<Vec<CustomerSnapshot>, ReconcileError> {
    let mut unlinked = Vec::new();
    let mut query = CustomerQuery::default();
    loop {
        let page = billing.gateway.customers(&query).await?;
        for customer in page.items {
            if !customer.deleted && billing.store.workspace_of(&customer.id).await?.is_none() {
                unlinked.push(customer);
            }
        }
        query.after = page.next;
        if query.after.is_none() {
            return Ok(unlinked);
        }
    }
}

struct Adopting<'a, S, G> {
    billing: &'a Billing<S, G>,
    heal: Heal,
    book: PriceCatalog,
    /// Workspaces that have got a customer, which a dry run does not write.
    taken: BTreeSet<WorkspaceId>,
    told: Vec<Adoption>,
}

impl<S: BillingStore, G: PaymentGateway> Adopting<'_, S, G> {
    /// Customers of one address. Where several have it, it is the one that pays.
    async fn by_address(
        &mut self,
        workspaces: &BTreeSet<WorkspaceId>,
        customers: &[CustomerSnapshot],
    ) -> Result<(), ReconcileError> {
        let only_workspace = match workspaces.first() {
            None => {
                let nobodys = |customer: &CustomerSnapshot| Adoption::NoWorkspace {
                    customer: customer.id.clone(),
                };
                self.told.extend(customers.iter().map(nobodys));
                return Ok(());
            }
            Some(workspace) if workspaces.len() == 1 => Some(*workspace),
            Some(_) => None,
        };
        let chosen = match customers {
            [only] => Some(only),
            several => {
                let mut paying = Vec::new();
                for customer in several {
                    if !self.living(&customer.id).await?.is_empty() {
                        paying.push(customer);
                    }
                }
                match paying.as_slice() {
                    [one] => Some(*one),
                    _ => None,
                }
            }
        };
        if let (Some(workspace), Some(chosen)) = (only_workspace, chosen) {
            self.take(workspace, chosen, FoundBy::Address).await?;
        }
        for customer in customers {
            let customer = customer.id.clone();
            match (only_workspace, chosen) {
                (Some(_), Some(chosen)) if chosen.id == customer => {}
                (Some(workspace), Some(_)) => self.told.push(Adoption::HasAnother {
                    customer,
                    workspace,
                }),
                _ => self.told.push(Adoption::Ambiguous {
                    customer,
                    workspaces: workspaces.iter().copied().collect(),
                }),
            }
        }
        Ok(())
    }

    /// A customer's subscriptions that have not ended.
    async fn living(
        &self,
        customer: &CustomerId,
    ) -> Result<Vec<SubscriptionSnapshot>, ReconcileError> {
        let mut all = self.billing.gateway.subscriptions_of(customer).await?;
        all.retain(|subscription| !subscription.status.is_final());
        Ok(all)
    }

    /// Links a customer to its workspace, unless that cannot be.
    async fn take(
        &mut self,
        workspace: WorkspaceId,
        customer: &CustomerSnapshot,
        found_by: FoundBy,
    ) -> Result<(), ReconcileError> {
        let told = self.attempt(workspace, customer, found_by).await?;
        self.told.push(told);
        Ok(())
    }

    async fn attempt(
        &mut self,
        workspace: WorkspaceId,
        found: &CustomerSnapshot,
        found_by: FoundBy,
    ) -> Result<Adoption, ReconcileError> {
        let customer = found.id.clone();
        if !self.billing.store.exists(workspace).await? {
            return Ok(Adoption::NoWorkspace { customer });
        }
        let living = self.living(&customer).await?;
        let payer = {
            // Dropped without a commit: a look.
            let mut tx = self.billing.store.begin_billing(&scope(workspace)).await?;
            tx.entitlements().await?;
            tx.payer().await?
        };
        let items = living.iter().flat_map(|subscription| &subscription.items);
        let mut currencies = items.map(|item| item.price.currency);
        if let Some(currency) = currencies.find(|currency| *currency != payer.currency) {
            return Ok(Adoption::OtherCurrency {
                customer,
                workspace,
                currency,
            });
        }
        let is_free = !self.taken.contains(&workspace);
        if !is_free || !link(self.billing, workspace, found, self.heal).await? {
            return Ok(Adoption::HasAnother {
                customer,
                workspace,
            });
        }
        self.taken.insert(workspace);
        if self.heal == Heal::Yes {
            for subscription in &living {
                let object = ObjectRef::new(ObjectKind::Subscription, &subscription.id);
                Inbox::touch(&self.billing.store, &object, Some(&customer)).await?;
            }
        }
        let adopted = living.into_iter().map(|subscription| AdoptedSubscription {
            sold: self
                .book
                .plan_of(&subscription.items)
                .map(|(_, sold)| sold.clone()),
            id: subscription.id,
        });
        Ok(Adoption::Linked {
            customer,
            workspace,
            found_by,
            subscriptions: adopted.collect(),
        })
    }
}
