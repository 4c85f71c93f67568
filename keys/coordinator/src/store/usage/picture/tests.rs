//! Use over time, whatever becomes of its hours.

use std::collections::BTreeMap;

use mytunnel_keys::usage::Month;

use super::*;
use crate::store::tests::each;

/// Days of hours, over borders of months and of a year.
const DAYS: u64 = 60;

type Sums = BTreeMap<(Serial, u64), (Usage, i64)>;

fn serial(number: u8) -> Serial {
    Serial::from_bytes([number; 16])
}

/// Rows by the key and the beginning of their span, put together by `start`.
fn sums(rows: &[(Serial, u64, u64, Usage, i64)], start: impl Fn(u64) -> u64) -> Sums {
    let mut sums = Sums::new();
    for (serial, at, _, used, cost) in rows {
        let sum = sums.entry((*serial, start(*at))).or_default();
        *sum = (sum.0.plus(*used), sum.1 + cost);
    }
    sums
}

#[tokio::test]
async fn hours_become_days_and_no_day_or_month_changes() {
    let november = Month::of(1_793_000_000);
    assert_eq!(november.to_string(), "2026-10");
    let begin = november.after().after().start() - 20 * DAY;
    let (_places, stores) = each().await;
    for opened in stores {
        let rows = async || {
            let rows = opened.engine.read(|reading| {
                reading.all(
                    "SELECT serial, at, span, cost, bytes_in, bytes_out, requests, tunnel_seconds FROM usage",
                    params![],
                    |row| {
                        let (at, span, cost) = (row.get(1)?, row.get(2)?, row.get(3)?);
                        Ok((column::serial(row, 0)?, at, span, usage(row, 4)?, cost))
                    },
                )
            });
            rows.await.unwrap()
        };
        opened
            .engine
            .write(move |writing| {
                let user = User { parent: None, tenant: "ten_a".parse().unwrap(), project: None };
                for hour in 0..DAYS * 24 {
                    let used = Usage { bytes_in: hour, requests: hour % 7, ..Usage::default() };
                    for number in 1..=2 {
                        // Some of it was charged and taken back.
                        let cost = (hour % 11).cast_signed() - 2;
                        writing.draw(&serial(number), &user, begin + hour * HOUR, used, cost)?;
                    }
                }
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
        let before = rows().await;
        let old = begin + DAYS / 2 * DAY + 5 * HOUR;
        for _ in 0..3 {
            opened.engine.write(move |writing| writing.fold_hours(old)).await.unwrap();
        }
        let after = rows().await;
        assert!(after.iter().all(|(_, at, span, ..)| (*span == HOUR) == (*at >= old) || *span == DAY));
        assert!(after.len() < before.len() * 2 / 3, "{} of {}", after.len(), before.len());
        for start in [|at: u64| at - at % DAY, |at: u64| Month::of(at).start()] {
            assert_eq!(sums(&after, start), sums(&before, start));
        }
    }
}
