//! createquantity and createRent. Both define a machine and leave it off, with a login of its own; they
//! answer when the work is stored.

use std::sync::Arc;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::layers::{ConsoleChoice, CreateRequest, GuestLogin, Root, SubmitOptions, random_name};
use babelvisor_core::model::{Flavor, Image, ImageKind, Timestamp};
use babelvisor_core::query;
use babelvisor_core::secret::Secret;
use babelvisor_core::{Error, ErrorKind};
use jiff::Span;
use jiff::tz::TimeZone;

use crate::PveOpen;
use crate::auth::Visitor;
use crate::decode::{Create, Paying, Rent};
use crate::encode::Data;
use crate::error::{Code, Fault};
use crate::reads::pays;
use crate::settings::CreateAnswers;

/// Letters and digits of a machine's name, which no create call lets the client choose.
const NAME: usize = 10;
/// Letters and digits of a machine's password.
const PASSWORD: usize = 16;
/// VNC cuts passwords off here; a viewer that is given the whole one does the same.
const CONSOLE_PASSWORD: usize = 8;
/// The login of an image that states none.
const ADMINISTRATOR: &str = "root";

impl PveOpen {
    /// `createquantity`: paid by use, without an end.
    pub(crate) async fn create_by_use(&self, visitor: &Visitor, create: &Create) -> Result<Data, Fault> {
        let now = self.core.now();
        let (flavor, image) = choose(&now, visitor, create, Paying::ByUse)?;
        if !reachable(&now, &image) {
            return Err(Error::new(
                ErrorKind::BackendUnavailable,
                "no backend that has the image is up",
            )
            .into());
        }
        self.create(visitor, &flavor, image, None).await
    }

    /// `createRent`: paid in advance, for a term.
    pub(crate) async fn create_rented(&self, visitor: &Visitor, rent: &Rent) -> Result<Data, Fault> {
        if self.settings.require_verified_identity && !visitor.verified {
            return Err(Fault::code(Code::NotVerified));
        }
        let now = self.core.now();
        let (flavor, image) = choose(&now, visitor, &rent.create, Paying::ForTerm)?;
        let end = term_end(Timestamp::now(), rent.period_type, rent.period_number)
            .ok_or_else(|| Fault::parameter("periodNumber: the term must end before the year 10000"))?;
        if !reachable(&now, &image) {
            return Err(Fault::code(Code::CreationWaits));
        }
        self.create(visitor, &flavor, image, Some(end)).await
    }

    async fn create(
        &self,
        visitor: &Visitor,
        flavor: &Flavor,
        image: Arc<Image>,
        end: Option<Timestamp>,
    ) -> Result<Data, Fault> {
        // No backend hands out GPUs yet: better no machine than one without what was paid for.
        if flavor.gpus > 0 {
            return Err(Fault::code(Code::NoCapacity));
        }
        let user = if image.admin_user.is_empty() {
            ADMINISTRATOR
        } else {
            &image.admin_user
        };
        let password = Secret::random(PASSWORD);
        let console = password
            .expose()
            .chars()
            .take(CONSOLE_PASSWORD)
            .collect::<String>();
        let request = CreateRequest {
            name: random_name(NAME),
            vcpus: flavor.vcpus,
            memory: flavor.memory,
            disk: flavor.disk,
            flavor: Some(flavor.id),
            login: Some(GuestLogin {
                user: Some(user.to_owned()),
                password,
            }),
            root: Root::Image(image),
            console: ConsoleChoice::Password(Secret::new(console)),
            expires_at: end,
            ..CreateRequest::default()
        };
        let created = self
            .core
            .create_vm(&visitor.caller, request, SubmitOptions::REFUSE)
            .await;
        let (vm, _) = created.map_err(|error| match error.kind {
            // Sizes are the package's: the client sent nothing wrong.
            ErrorKind::InvalidInput => {
                Fault::business(format!("package {} cannot be used: {error}", flavor.short_id))
            }
            _ => Fault::from(error),
        })?;
        match self.settings.create_answers {
            CreateAnswers::True => Ok(Data::Flag(true)),
            CreateAnswers::Id => Data::of(&vm.record.short_id),
        }
    }
}

/// Package and image, if both exist, can be paid this way and go together.
fn choose(
    now: &Snapshot,
    visitor: &Visitor,
    create: &Create,
    paying: Paying,
) -> Result<(Arc<Flavor>, Arc<Image>), Fault> {
    let flavor = now
        .flavors
        .get(&create.package_id)
        .filter(|flavor| query::may_use_flavor(&visitor.caller, flavor))
        .cloned()
        .ok_or_else(|| no_such("packageId", &create.package_id))?;
    let image = number(&create.image_id)
        .and_then(|number| now.images_by_number.get(&number))
        .filter(|image| image.kind == ImageKind::Disk && query::may_use_image(&visitor.caller, image))
        .cloned()
        .ok_or_else(|| no_such("imageId", &create.image_id))?;
    if !pays(flavor.billing, paying) {
        let how = match paying {
            Paying::ByUse => "for a term only, use createRent",
            Paying::ForTerm => "by use only, use createquantity",
        };
        return Err(Fault::business(format!(
            "packageId {} is paid {how}",
            create.package_id
        )));
    }
    // Where one of them states no type there is nothing to differ.
    if !flavor.family.is_empty() && !image.family.is_empty() && flavor.family != image.family {
        return Err(Fault::code(Code::TypesDiffer));
    }
    Ok((flavor, image))
}

fn no_such(field: &str, id: &str) -> Fault {
    // The schema has bounded the id; control characters have no place in a message.
    let id: String = id.chars().filter(|letter| !letter.is_control()).collect();
    Fault::business(format!("{field} {id} does not exist"))
}

/// An image's number, in its one spelling.
fn number(text: &str) -> Option<u64> {
    text.parse()
        .ok()
        .filter(|number: &u64| number.to_string() == text)
}

/// Whether a backend that has the image is up; an image that lies nowhere is for the core to refuse.
fn reachable(now: &Snapshot, image: &Image) -> bool {
    image.locations.is_empty()
        || image
            .locations
            .iter()
            .any(|location| now.backend_up(&location.backend))
}

/// When a term that begins at `begin` ends, by the calendar: 0 hour, 1 day, 2 week, 3 month, 4 quarter,
/// 5 year. None if the calendar does not reach that far.
fn term_end(begin: Timestamp, kind: i64, number: i64) -> Option<Timestamp> {
    let span = match kind {
        0 => Span::new().try_hours(number),
        1 => Span::new().try_days(number),
        2 => Span::new().try_weeks(number),
        3 => Span::new().try_months(number),
        4 => Span::new().try_months(number.checked_mul(3)?),
        5 => Span::new().try_years(number),
        _ => return None,
    };
    let end = begin.to_zoned(TimeZone::UTC).checked_add(span.ok()?).ok()?;
    Some(end.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_ends_by_the_calendar() {
        let ends = [
            (0, 3, "2024-01-31T15:00:00Z"),
            (1, 1, "2024-02-01T12:00:00Z"),
            (2, 2, "2024-02-14T12:00:00Z"),
            // The 31st of a shorter month is its last day.
            (3, 1, "2024-02-29T12:00:00Z"),
            (4, 1, "2024-04-30T12:00:00Z"),
            (5, 1, "2025-01-31T12:00:00Z"),
        ];
        let begin: Timestamp = "2024-01-31T12:00:00Z".parse().unwrap();
        for (kind, number, end) in ends {
            assert_eq!(
                term_end(begin, kind, number),
                Some(end.parse().unwrap()),
                "{number} of kind {kind}"
            );
        }
    }

    #[test]
    fn a_term_beyond_the_calendar_has_no_end() {
        let begin: Timestamp = "2024-01-31T12:00:00Z".parse().unwrap();
        for (kind, number) in [(5, 10_000), (4, i64::MAX), (0, i64::MAX), (6, 1)] {
            assert_eq!(term_end(begin, kind, number), None, "{number} of kind {kind}");
        }
    }

    #[test]
    fn an_image_number_has_one_spelling() {
        assert_eq!(number("8989"), Some(8989));
        for text in ["", "08989", "+1", "-1", "1.0", "٣", "99999999999999999999999"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
