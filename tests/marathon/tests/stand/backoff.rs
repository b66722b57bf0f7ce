//! Back-off: launches of what fails come later and later.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stage::Stage;

fn row(stage: &Stage) -> Option<Value> {
    stage.get("/v2/queue")["queue"].as_array()?.first().cloned()
}

#[test]
fn an_app_that_fails_is_launched_later_and_later() {
    let stage = Stage::new(&["--backoff-scale", "1"]);
    let app = json!({
        "id": "x", "cmd": "exit 1", "backoffSeconds": 1,
        "backoffFactor": 100, "maxLaunchDelaySeconds": 60, "instances": 1,
    });
    stage.call("POST", "/v2/apps", app);
    let waits = |above: i64| {
        stage.wait("a longer delay", || {
            row(&stage).filter(|it| it["delay"]["timeLeftSeconds"].as_i64() > Some(above))
        })
    };
    let first = waits(0);
    assert_eq!((&first["count"], &first["delay"]["overdue"]), (&json!(1), &json!(false)));
    let second = waits(50);
    assert!(second["delay"]["timeLeftSeconds"].as_i64() <= Some(60), "{second}");
    assert!(stage.tasks("x").is_empty(), "what waits for its launch is no task");
    assert_eq!(stage.app("x")["instances"], 1);
    let before = stage.app("x")["lastTaskFailure"]["taskId"].clone();
    assert_eq!(stage.call("DELETE", "/v2/queue//x/delay", Value::Null).status, 204);
    stage.wait("another try", || {
        (stage.app("x")["lastTaskFailure"]["taskId"] != before).then_some(())
    });
    assert!(stage.call("DELETE", "/v2/queue/nobody/delay", Value::Null).status == 404);
    // The deployment that created it lasts as long as it fails.
    assert_eq!(stage.get("/v2/deployments").as_array().map(Vec::len), Some(1));
    // Another version begins anew.
    let fixed = json!({ "cmd": "sleep 1000" });
    stage.call("PUT", "/v2/apps/x?force=true", fixed);
    stage.settle();
    assert_eq!((stage.tasks("x").len(), row(&stage)), (1, None));
}

#[test]
fn without_offers_instances_wait_in_the_queue() {
    let stage = Stage::new(&[]);
    stage.fault("POST", "/offers/stop", Value::Null);
    stage.call("POST", "/v2/apps", json!({ "id": "x", "cmd": "sleep 1000", "instances": 3 }));
    let row = stage.wait("the queue", || row(&stage));
    assert_eq!(
        (&row["count"], &row["delay"]),
        (&json!(3), &json!({ "timeLeftSeconds": 0, "overdue": true }))
    );
    std::thread::sleep(Duration::from_millis(200));
    assert!(stage.tasks("x").is_empty());
    let full = stage.get("/v2/queue?embed=lastUnusedOffers");
    assert_eq!(full["queue"][0]["lastUnusedOffers"], json!([]));
    stage.fault("DELETE", "/offers/stop", Value::Null);
    stage.settle();
    assert_eq!(stage.tasks("x").len(), 3);
}
