//! The data path does the same whatever drives the sockets: its plays, told once for each path that
//! the ordinary run does not take by itself.

use crate::stage::{Path, on};
use crate::{bulk, crowding, failing, messages, resets, tunnels};

/// What a data path must be able to do.
const STORIES: [fn(); 22] = [
    messages::chunks_and_trailers_cross_both_ways,
    messages::a_client_that_waits_for_continue_gets_it_once,
    messages::a_client_of_http_1_0_is_served_and_its_connection_closed,
    messages::connection_close_is_heeded_on_both_sides,
    messages::pipelined_requests_are_answered_in_order,
    messages::a_body_comes_through_piece_by_piece,
    messages::a_request_in_single_bytes_is_a_request,
    failing::an_answer_that_breaks_off_is_broken_off,
    failing::a_client_that_says_that_nothing_follows_is_gone,
    failing::a_half_closed_client_gets_its_answer_where_the_operator_allows_it,
    failing::a_client_that_leaves_the_queue_reaches_nobody,
    failing::a_connection_that_went_stale_is_not_seen_by_the_client,
    resets::clients_break_off_at_every_point,
    resets::instances_break_off_at_every_point,
    resets::an_instance_that_resets_what_it_accepts,
    resets::an_answer_before_the_end_of_the_request_is_delivered_and_the_connection_ends,
    crowding::one_who_pipelines_and_never_reads_costs_little_and_nobody_else_anything,
    crowding::slow_readers_of_much_do_not_slow_others_down,
    bulk::a_hundred_mebibytes_go_both_ways_at_a_time,
    tunnels::eight_mebibytes_go_each_way_at_a_time_in_little_memory,
    tunnels::a_client_that_dies_gives_its_slot_back,
    tunnels::what_comes_right_behind_a_head_is_not_lost,
];

#[test]
fn on_the_streams_of_glommio() {
    all_on(&["--io", "glommio"]);
}

#[test]
fn on_a_ring_whose_completions_are_signalled() {
    all_on(&["--ring-without", "defer-taskrun"]);
}

#[test]
fn on_a_ring_that_accepts_one_by_one() {
    all_on(&["--ring-without", "multishot-accept"]);
}

#[test]
fn on_a_ring_that_receives_one_by_one() {
    all_on(&["--ring-without", "multishot-receive"]);
}

#[test]
fn on_a_ring_without_messages_from_ring_to_ring() {
    all_on(&["--ring-without", "message-ring"]);
}

#[test]
fn on_a_ring_without_any_feature() {
    all_on(&[
        "--ring-without",
        "defer-taskrun",
        "--ring-without",
        "multishot-accept",
        "--ring-without",
        "multishot-receive",
        "--ring-without",
        "message-ring",
        "--ring-without",
        "splice",
    ]);
}

fn all_on(path: Path) {
    for story in STORIES {
        on(path, story);
    }
}
