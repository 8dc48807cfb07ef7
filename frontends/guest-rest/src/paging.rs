//! The paging block and its links, exactly as the original computes them: `offset` and `limit` each override what
//! `page` and `page_size` give, while the links are always built from the latter.

use serde::Serialize;

/// Rows on a page where the client does not say.
const PAGE_SIZE: u64 = 50;

/// Which rows are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// As sent, or 1.
    pub(crate) page: u64,
    /// As sent, or 50.
    pub(crate) page_size: u64,
    /// The first row, counted from 0.
    pub(crate) offset: u64,
    /// Most rows.
    pub(crate) limit: u64,
}

/// What the links repeat of the request, in clear text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link<'a> {
    /// `http` or `https`.
    pub(crate) scheme: &'a str,
    /// The Host header.
    pub(crate) host: &'a str,
    /// `/api/guests` or `/api/guests/_search`.
    pub(crate) path: &'a str,
    /// `filter` or `keyword`, with its value.
    pub(crate) select: (&'a str, &'a str),
    /// `asc` or `desc`.
    pub(crate) order: &'a str,
    /// A field's name.
    pub(crate) order_by: &'a str,
}

#[derive(Serialize)]
struct Paging {
    total: u64,
    offset: u64,
    limit: u64,
    page: u64,
    page_size: u64,
    first: String,
    prev: String,
    next: String,
    last: String,
}

impl Page {
    /// From the numbers that were sent. The greatest are far beyond any list, so that they may saturate.
    pub(crate) fn new(
        page: Option<u64>,
        page_size: Option<u64>,
        offset: Option<u64>,
        limit: Option<u64>,
    ) -> Self {
        let (page, page_size) = (page.unwrap_or(1), page_size.unwrap_or(PAGE_SIZE));
        let before = page
            .saturating_sub(1)
            .saturating_mul(page_size)
            .min(i64::MAX as u64);
        Self {
            page,
            page_size,
            offset: offset.unwrap_or(before),
            limit: limit.unwrap_or(page_size),
        }
    }

    /// The rows of a list of `total` rows that lie on this page.
    pub(crate) fn rows(&self) -> (usize, usize) {
        let rows = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        (rows(self.offset), rows(self.limit))
    }

    /// The paging block as JSON. With nothing found, the last page is page 0.
    pub(crate) fn block(&self, total: usize, link: Link<'_>) -> Vec<u8> {
        let total = total as u64;
        let last = total.div_ceil(self.page_size.max(1));
        let to = |page: u64| {
            let Link {
                scheme,
                host,
                path,
                select: (name, value),
                order,
                order_by,
            } = link;
            let page_size = self.page_size;
            format!(
                "{scheme}://{host}{path}?page={page}&page_size={page_size}&{name}={value}&order={order}&order_by={order_by}"
            )
        };
        let paging = Paging {
            total,
            offset: self.offset,
            limit: self.limit,
            page: self.page,
            page_size: self.page_size,
            first: to(1),
            prev: to(self.page.saturating_sub(1).max(1)),
            next: to(self.page.saturating_add(1).min(last)),
            last: to(last),
        };
        // Numbers and text alone always encode.
        serde_json::to_vec(&paging).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const LINK: Link<'_> = Link {
        scheme: "http",
        host: "gw:8008",
        path: "/api/guests",
        select: ("filter", "name:like:a b%"),
        order: "asc",
        order_by: "id",
    };

    fn block(page: Page, total: usize) -> Value {
        serde_json::from_slice(&page.block(total, LINK)).unwrap()
    }

    fn pages(block: &Value) -> Vec<u64> {
        let page = |link: &str| {
            let query = block[link].as_str().unwrap().split_once("?page=").unwrap().1;
            query.split_once('&').unwrap().0.parse().unwrap()
        };
        ["first", "prev", "next", "last"].map(page).to_vec()
    }

    #[test]
    fn without_numbers_it_is_the_first_fifty() {
        let page = Page::new(None, None, None, None);
        assert_eq!(
            page,
            Page {
                page: 1,
                page_size: 50,
                offset: 0,
                limit: 50
            }
        );
    }

    #[test]
    fn offset_and_limit_override_one_by_one() {
        assert_eq!(Page::new(Some(2), Some(3), None, Some(2)).rows(), (3, 2));
        assert_eq!(Page::new(Some(2), Some(3), Some(1), None).rows(), (1, 3));
        let overridden = block(Page::new(None, None, Some(1), Some(2)), 9);
        assert_eq!(
            (&overridden["page"], &overridden["page_size"]),
            (&Value::from(1), &Value::from(50))
        );
        assert!(
            overridden["next"]
                .as_str()
                .unwrap()
                .contains("?page=1&page_size=50&")
        );
    }

    #[test]
    fn links_lead_around() {
        assert_eq!(
            pages(&block(Page::new(Some(2), Some(3), None, None), 10)),
            [1, 1, 3, 4]
        );
        assert_eq!(
            pages(&block(Page::new(Some(4), Some(3), None, None), 10)),
            [1, 3, 4, 4]
        );
        assert_eq!(
            pages(&block(Page::new(Some(9), Some(3), None, None), 10)),
            [1, 8, 4, 4],
            "beyond the end"
        );
        assert_eq!(
            pages(&block(Page::new(None, None, None, None), 0)),
            [1, 1, 0, 0],
            "nothing found"
        );
    }

    #[test]
    fn a_link_repeats_all_five_in_clear_text() {
        let expected =
            "http://gw:8008/api/guests?page=1&page_size=50&filter=name:like:a b%&order=asc&order_by=id";
        assert_eq!(block(Page::new(None, None, None, None), 3)["first"], expected);
    }

    #[test]
    fn the_greatest_numbers_do_no_harm() {
        let most = 99_999_999_999_999_999;
        let page = Page::new(Some(most), Some(most), None, None);
        assert_eq!(page.offset, i64::MAX as u64);
        block(page, 3);
    }
}
