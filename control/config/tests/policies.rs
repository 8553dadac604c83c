//! Every mistake in a policy: its line, its key, its cause and its remedy, as in `problems.rs`.

mod common;

use common::{Folder, RIGHT, marked_line, refused, refused_text};

#[test]
fn policy_matches() {
    refused(
        "from = \"lan\"",
        "from = \"lam\" # here",
        "policy[out].from",
        "there is no interface \"lam\"",
        "did you mean \"lan\"? (there are lan, wan)",
    );
    refused(
        "from = \"lan\"",
        "from = [\n  \"lan\",\n  \"any\", # here\n]",
        "policy[out].from",
        "\"any\" stands beside a name",
        "keep one of the two",
    );
    refused(
        "destination_ports = [8080, \"9000-9010\"]",
        "destination_ports = [8080,\n \"9010-9000\"] # here",
        "policy[in].destination_ports",
        "\"9010-9000\" begins above its end",
        "write \"9000-9010\"",
    );
    refused(
        "destination_ports = [8080, \"9000-9010\"]",
        "destination_ports = [0] # here",
        "policy[in].destination_ports",
        "0 is no port",
        "write a port from 1 to 65535, or a range such as \"8000-8080\"",
    );
    refused(
        "source_nat = \"masquerade\"",
        "destination_ports = 53 # here",
        "policy[out].destination_ports",
        "needs a protocol that has ports",
        "write protocol = \"tcp\" or \"udp\" in this policy",
    );
    refused(
        "name = \"in\"",
        "name = \"out\" # here",
        "policy[out].name",
        "\"out\" is the policy on line 50",
        "give each policy a name of its own",
    );
}

#[test]
fn policy_actions() {
    refused(
        "to = \"wan\"\naction = \"allow\"",
        "to = \"wan\"\naction = \"alow\" # here",
        "policy[out].action",
        "\"alow\" is no choice",
        "did you mean \"allow\"? There are \"allow\", \"deny\", \"reject\"",
    );
    refused(
        "action = \"allow\"\nsource_nat = \"masquerade\"",
        "action = \"deny\"\nsource_nat = \"masquerade\" # here",
        "policy[out].source_nat",
        "has no effect, since the action is \"deny\"",
        "remove it, or write action = \"allow\"",
    );
    refused(
        "source_nat = \"masquerade\"",
        "durability = \"aked\" # here",
        "policy[out].durability",
        "\"aked\" is no choice",
        "did you mean \"acked\"? There are \"none\", \"async\", \"acked\"",
    );
}

#[test]
fn translation() {
    refused(
        "source_nat = \"masquerade\"",
        "source_nat = \"192.0.2.1\" # here",
        "policy[out].source_nat",
        "192.0.2.1 is no cluster address of the outgoing interface",
        "write \"masquerade\" or one of: 198.51.100.1, 198.51.100.2",
    );
    refused_text(
        &format!(
            "{RIGHT}\n[[interface]]\nname = \"dmz\"\ndevice = \"null\"\nrole = \"traffic\"\n\
             unit_address = \"203.0.113.1/24\"\n[[policy]]\nname = \"dmz\"\nto = \"dmz\"\n\
             action = \"allow\"\nsource_nat = \"masquerade\" # here\n"
        ),
        "policy[dmz].source_nat",
        "\"dmz\" has no cluster address to take",
        "add cluster_addresses to that interface, or write another interface into to",
    );
    refused(
        "destination_nat = \"192.0.2.100:80\"",
        "destination_nat = \"192.0.2.100:0\" # here",
        "policy[in].destination_nat",
        "\"0\" is no port",
        "write a port from 1 to 65535",
    );
    refused(
        "destination_nat = \"192.0.2.100:80\"",
        "destination_nat = \"192.0.2.1\" # here",
        "policy[in].destination_nat",
        "192.0.2.1 is the gateway's own address",
        "write the address of the server behind the gateway",
    );
    refused(
        "destination = [\"198.51.100.1\"]",
        "destination = [\"198.51.100.9\"] # here",
        "policy[in].destination",
        "198.51.100.9/32 lies in 198.51.100.0/24 of \"wan\" and is no cluster address, so nobody \
         answers ARP for it",
        "write a cluster address, or add it to the cluster_addresses of \"wan\"",
    );
    refused_text(
        &format!(
            "{RIGHT}\n[[policy]]\nname = \"dns\"\naction = \"allow\"\n\
             destination_nat = \"192.0.2.53\" # here\n"
        ),
        "policy[dns].destination_nat",
        "needs the address that clients use",
        "add a line such as destination = \"198.51.100.1\", a cluster address",
    );
}

#[test]
fn a_policy_that_is_never_reached_is_a_warning() {
    let text = format!(
        "{RIGHT}\n[[policy]]\nname = \"all\"\naction = \"deny\"\n\
         [[policy]] # here\nname = \"late\"\naction = \"allow\"\n"
    );
    let config = Folder::new().right(&text);
    let [warning] = config.warnings() else {
        panic!("one warning was expected: {:?}", config.warnings());
    };
    assert_eq!(warning.line, Some(marked_line(&text)));
    assert_eq!(
        warning.cause,
        "is never reached: \"all\" above matches everything"
    );
}
