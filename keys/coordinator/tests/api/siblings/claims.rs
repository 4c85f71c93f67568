//! A relay that has moved on while the end of its old subscription is open: that end changes nothing.

use super::*;

impl Lab {
    /// Which tunnels are up, by their names.
    async fn online(&self, house: &House) -> HashSet<String> {
        let listed = self.call(By::Bearer(&house.token), "GET", "/api/v1/tunnels", Value::Null).await.ok();
        let tunnels = listed["tunnels"].as_array().unwrap().iter().filter(|tunnel| tunnel["online"] == true);
        tunnels.map(|tunnel| tunnel["name"].as_str().unwrap().to_owned()).collect()
    }

    async fn sees(&self, house: &House, names: &[&str]) {
        let wanted: HashSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
        eventually(async || (self.online(house).await == wanted).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_subscription_overwrites_nothing_and_ends() {
    let Some(pair) = Pair::new().await else { return };
    copy_keys(&pair.place.path().join("one"), &pair.place.path().join("three"));
    let third = opened(pair.data("three")).await;
    let Pair { first, second, house, .. } = &pair;
    let keys = [
        first.child(&house.master).await,
        first.child(&house.master).await,
        first.child(&house.master).await,
    ];
    let old = first.relay().await;
    old.up(&house.project, "web", &keys[0]).await;
    third.sees(house, &["web"]).await;
    let new = second.subscribe(old.id, None).await;
    old.up(&house.project, "late", &keys[1]).await;
    new.up(&house.project, "web", &keys[0]).await;
    // The old end is cut, with all that it could tell.
    timeout(PATIENCE, old.follow()).await.expect("the end of a subscription that is over");
    new.up(&house.project, "next", &keys[2]).await;
    third.sees(house, &["next", "web"]).await;
    first.sees(house, &["next", "web"]).await;
    // The new one is left alone.
    let mut following = JoinSet::new();
    following.spawn(new.follow());
    let answer = third.revoke(By::Key(&house.device), &keys[1], false).await.ok();
    assert_eq!(applied(&answer), [true], "{answer}");
}

/// As after a crash of the server, which empties tables that it does not keep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_forgot_is_told_again() {
    let Some(pair) = Pair::new().await else { return };
    let Pair { first, second, house, database, .. } = &pair;
    let relay = first.relay().await;
    let child = first.child(&house.master).await;
    relay.up(&house.project, "web", &child).await;
    second.sees(house, &["web"]).await;
    database.change("TRUNCATE followers, live");
    copy_keys(&pair.place.path().join("one"), &pair.place.path().join("three"));
    opened(pair.data("three")).await.sees(house, &["web"]).await;
    second.sees(house, &["web"]).await;
    let mut following = JoinSet::new();
    following.spawn(relay.follow());
    let answer = second.revoke(By::Key(&house.device), &child, false).await.ok();
    assert_eq!(applied(&answer), [true], "{answer}");
}
