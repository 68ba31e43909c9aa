//! The Multi-Cluster Services API as one battery of cases, the same for every API server.
//!
//! A test binary includes this file by path and writes one line for each kind of server:
//! `battery!(embedded, crate::world::start);`. Cases know clusters through their APIs alone: they write what users,
//! kubelets and Kubernetes' own controllers would write, and read what controllers of ours make of it. Sentences of
//! KEP-1645, of its conformance suite and of the worked examples are quoted above the cases that hold them.
//!
//! Of the suite's cases, R14 and O4 to O13 are not here: they ask for calls and lookups from pods, which no API shows.
//!
//! | file | what is held |
//! | --- | --- |
//! | [`stage`], [`server`], [`controlling`] | the clusters that cases share, and how a story has them for itself |
//! | [`case`](mod@case), [`objects`], [`recording`] | what a case sees of the clusters, and writes into them |
//! | [`exports`], [`imports`] | "Exporting Services", "Importing Services", "Service Types", "ClusterSetIP" |
//! | [`conflicts`], [`ports`] | "Constraints and Conflict Resolution", property by property |
//! | [`slices`], [`headless`], [`networks`] | "Using EndpointSlice objects", both arrangements, endpoints that are stale |
//! | [`traffic`] | TrafficPolicies: which slices they change, what they are told |
//! | [`tokens`](mod@tokens) | join tokens on a hub: a battery of its own |
//! | [`mischief`] | what is wrong, by mistake or on purpose, hurts only itself |
//! | [`life`] | APIs, controllers and members that come and go |
//! | [`example_a`], [`example_b`], [`example_c`] | the worked examples, line by line |

pub(crate) mod case;
pub(crate) mod conflicts;
pub(crate) mod controlling;
pub(crate) mod example_a;
pub(crate) mod example_b;
pub(crate) mod example_c;
pub(crate) mod exports;
pub(crate) mod headless;
pub(crate) mod imports;
pub(crate) mod life;
pub(crate) mod mischief;
pub(crate) mod networks;
pub(crate) mod objects;
pub(crate) mod ports;
pub(crate) mod recording;
pub(crate) mod server;
pub(crate) mod slices;
pub(crate) mod stage;
pub(crate) mod tokens;
pub(crate) mod traffic;

/// Lists the cases for one kind of server.
macro_rules! battery {
    ($world:ident, $start:path) => {
        mod $world {
            static STAGE: $crate::battery::stage::Stage =
                $crate::battery::stage::Stage::new($start);

            $crate::battery::battery! { @all
                cases conflicts:
                    r13_row_headlessness_the_oldest_export_wins
                    row_session_affinity_the_oldest_export_wins
                    row_session_affinity_config_the_oldest_export_wins
                    row_internal_traffic_policy_the_oldest_export_wins
                    row_traffic_distribution_the_oldest_export_wins
                    o1_only_exported_labels_and_annotations_are_propagated
                    o2_row_labels_and_annotations_the_whole_set_of_the_oldest_wins
                    row_ip_families_that_differ_are_told
                    row_ip_families_in_another_order_are_no_conflict
                    the_oldest_export_wins_whatever_its_cluster_is_called
                    a_conflict_is_on_all_exports_or_on_none
                    a_conflict_that_arises_does_not_disturb_traffic;
                cases exports:
                    a_service_is_not_visible_before_it_is_exported
                    a_service_without_an_export_of_its_own_is_not_exported
                    an_export_without_a_service_is_invalid_until_there_is_one
                    r12_a_mere_name_is_refused_and_never_imported
                    node_ports_and_load_balancers_become_clusterset_ips
                    an_export_that_is_deleted_takes_its_own_share_away
                    conditions_name_the_generation_and_turn_only_when_they_turn
                    an_export_belongs_to_whoever_made_it
                    a_derived_service_cannot_be_exported
                    an_export_follows_its_service;
                cases headless:
                    an_endpoint_has_one_name_in_every_cluster
                    an_endpoint_without_a_hostname_gets_one_at_home
                    a_pod_that_restarts_keeps_its_address_elsewhere
                    the_same_hostname_in_two_clusters_is_two_endpoints
                    addresses_that_are_published_before_they_are_ready_are_published
                    everything_goes_with_the_endpoint_and_with_the_export;
                cases imports:
                    r1_an_import_exists_as_long_as_one_cluster_exports
                    r2_a_cluster_ip_service_is_imported_as_clusterset_ip
                    r3_the_session_affinity_matches
                    r4_the_internal_traffic_policy_matches
                    a_local_traffic_policy_is_told_and_not_enforced
                    r5_the_traffic_distribution_matches
                    r6_there_is_an_address_for_each_family_in_the_same_order
                    r7_the_ports_match
                    r10_a_headless_service_is_imported_as_headless
                    r11_a_headless_import_has_no_address_at_any_time
                    only_clusters_with_the_namespace_import_the_exporter_included
                    a_namespace_that_goes_loses_its_imports
                    the_clusterset_ip_stays_for_the_life_of_an_import
                    the_import_comes_last_and_goes_first
                    an_import_is_read_in_both_versions;
                cases mischief:
                    a_member_whose_id_is_too_long_is_no_member
                    ports_of_one_export_that_clash_are_dropped
                    an_annotation_of_a_mebibyte_is_left_out_and_told
                    what_another_member_should_have_left_out_is_left_out
                    a_label_that_no_api_takes_is_left_out_and_told
                    a_service_of_five_thousand_endpoints_is_bounded_everywhere
                    a_bad_address_in_a_slice_hurts_only_itself
                    a_foreign_service_in_the_way_is_told_and_kept
                    a_foreign_import_is_told_and_kept
                    foreign_slices_in_the_way_are_told_and_kept
                    a_foreign_peer_is_kept
                    what_users_edit_of_ours_is_put_back
                    what_users_delete_of_ours_is_made_again
                    what_a_later_version_writes_hurts_only_itself
                    an_export_under_another_name_is_not_believed
                    what_no_member_exports_is_not_imported
                    a_slice_of_another_service_names_no_gateway;
                cases networks:
                    pods_of_one_network_are_called_directly_and_that_is_told
                    own_pods_come_first_then_the_network_then_gateways
                    what_is_guarded_is_called_through_gateways_within_its_network_too
                    many_pods_take_many_slices_and_one_change_one_write
                    row_stale_endpoints_of_a_silent_member_go_and_come_back
                    a_clock_that_runs_an_hour_ahead_changes_nothing;
                cases ports:
                    r8_row_ports_the_union_is_exposed_and_the_difference_told
                    r9_row_ports_of_two_with_one_name_the_oldest_wins
                    row_ports_of_two_with_one_number_the_oldest_wins
                    row_ports_without_a_name_are_one_name
                    row_ports_lead_only_to_clusters_that_expose_them
                    ports_of_every_form_are_imported_as_they_are
                    what_gateways_cannot_carry_is_told_and_imported_all_the_same
                    a_port_that_stays_keeps_its_gateway_port;
                cases slices:
                    o3_every_cluster_has_slices_with_the_mcs_labels
                    slices_are_of_one_cluster_and_for_one_kind_of_reader
                    imports_say_whether_there_are_slices
                    slices_follow_the_pods
                    own_pods_keep_what_is_known_of_them
                    each_family_has_slices_of_its_own;
                cases traffic:
                    where_clusters_are_weighed_only_gateways_are_called
                    a_policy_that_makes_no_sense_is_refused;
                stories example_c:
                    an_export_of_a_namespace_that_is_not_allowed_is_told_so
                    an_export_that_the_hub_refuses_is_told_why
                    an_import_without_a_gateway_is_pending
                    an_import_beyond_the_limit_is_pending
                    an_import_of_too_many_endpoints_says_so
                    a_namespace_that_is_not_selected_is_not_imported
                    row_an_import_of_an_unsupported_family_is_not_ready
                    a_member_of_no_known_merge_rules_is_told;
                stories life:
                    a_hub_that_is_away_takes_nothing_away
                    a_member_whose_api_is_away_catches_up
                    a_controller_that_restarts_writes_nothing_that_is_true
                    the_standby_takes_over_from_a_controller_that_dies
                    the_second_cluster_of_one_id_stands_back
                    a_member_that_leaves_takes_what_it_gave_and_nothing_else
                    a_member_that_returns_is_restored_from_its_own_state
                    of_two_slices_that_claim_one_port_the_older_keeps_it
                    members_know_each_other_and_tell_that_they_live
                    people_are_told_by_events
                    a_suspended_member_exports_nothing;
                told example_a:
                    both_exports_are_told_of_the_conflict
                    the_hub_has_what_each_exports
                    the_import_in_berlin
                    the_derived_service_in_berlin
                    the_allotment_in_berlin
                    the_mcs_slices_in_berlin
                    what_gateways_read_in_the_allotment
                    what_the_exporter_has_in_paris
                    what_the_exporter_has_in_tokyo
                    losing_the_oldest_changes_the_import_in_place
                    kept_ports_keep_their_numbers
                    who_is_left_has_no_conflict
                    when_the_pod_is_unready_the_standby_serves;
                told example_b:
                    the_hub_has_one_slice_per_family
                    the_import_has_families_and_no_address
                    each_endpoint_has_a_service_of_two_families
                    each_endpoint_has_a_gateway_port
                    mcs_slices_name_the_addresses_that_work_here
                    what_gateways_read_in_the_allotment
                    at_home_endpoints_are_pods
                    the_same_hostname_in_two_clusters_is_two_endpoints
                    dns_answers_ready_endpoints_for_the_service
                    dns_answers_single_endpoints_that_are_ready
                    dns_answers_where_ports_are_served
                    a_pod_that_restarts_changes_the_hub_slice_alone
                    two_addresses_of_a_pod_without_a_hostname_are_one_endpoint
                    dns_has_a_name_for_each_family_of_such_a_pod;
            }
        }
    };
    (@all $($how:ident $module:ident: $($case:ident)+;)+) => {
        $(mod $module {
            $crate::battery::battery! { @$how $module $($case)+ }
        })+
    };
    (@cases $module:ident $($case:ident)+) => {
        $(
            #[test]
            fn $case() {
                super::STAGE.case(stringify!($case), $crate::battery::$module::$case);
            }
        )+
    };
    (@stories $module:ident $($case:ident)+) => {
        use $crate::battery::$module::SEATS;
        $(
            #[test]
            fn $case() {
                super::STAGE.story(&SEATS, $crate::battery::$module::$case);
            }
        )+
    };
    (@told $module:ident $($case:ident)+) => {
        use $crate::battery::$module::{SEATS, Told, tell};
        static TOLD: tokio::sync::OnceCell<Option<Told>> = tokio::sync::OnceCell::const_new();
        $(
            #[test]
            fn $case() {
                let told = super::STAGE.recorded(&TOLD, &SEATS, tell);
                $crate::battery::$module::$case(told);
            }
        )+
    };
}
pub(crate) use battery;
