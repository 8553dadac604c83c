-- What all scripts share: the ports, the addresses, the flows, and how a trial is run and counted.
--
-- Change what stands first to what your machines have; everything else follows from it. README.md says
-- how a script is run.

local site = {}

-- Pktgen's numbers of the two ports.
site.sender = 0
site.receiver = 1

-- MACs as text: the gateway's virtual one on the client's side, as `tidegate interfaces` shows it (this
-- is cluster 7, first interface), and the sender's own.
site.gateway_mac = "02:74:67:00:07:00"
site.mac = "02:00:00:00:00:02"

-- The addresses of README.md (RFC 2544 appendix C sets 198.18.0.0/15 aside for benchmarks).
site.addresses = {
	client = "198.18.0.2",
	gateway = "198.18.0.1", -- the cluster's address on the client's side
	server = "198.19.0.2",
	outside = "198.19.0.1", -- and on the server's
}

-- Milliseconds that frames under way are waited for (RFC 2544 section 23).
site.grace = 2000

-- Flows differ in their ports: this many source ports, and per kind so many destination ports. The
-- numbers of ports have no common factor, so that all pairs come up, and no destination has more
-- sessions than one translated address has ports for.
local SOURCE_PORTS = 1000
local DESTINATION_PORTS = { [1000] = 1, [100000] = 101, [1000000] = 1009, [10000000] = 10007 }
local FIRST_SOURCE, FIRST_DESTINATION = 10000, 20000

local function both() return site.sender .. "," .. site.receiver end

-- Gives both ports their addresses, and learns the gateway's MAC by ARP.
function site.prepare()
	local a = site.addresses
	pktgen.screen("off")
	pktgen.stop("all")
	pktgen.set_ipaddr(site.sender, "src", a.client .. "/16")
	pktgen.set_ipaddr(site.sender, "dst", a.gateway)
	pktgen.set_ipaddr(site.receiver, "src", a.server .. "/16")
	pktgen.set_ipaddr(site.receiver, "dst", a.outside)
	-- Answers ARP, and takes the MAC of whoever answers.
	pktgen.process(both(), "on")
	pktgen.mac_from_arp("on")
	pktgen.send_arp(site.sender, "r")
	pktgen.send_arp(site.receiver, "r")
	pktgen.delay(1000)
	-- The packets go through the gateway, not to it.
	pktgen.set_ipaddr(site.sender, "dst", a.server)
	pktgen.set_proto(both(), "udp")
	pktgen.set(site.sender, "count", 0)
end

-- Makes the sender send `sources` times `destinations` flows of frames of `size` bytes, one after the
-- other. A range has a MAC of its own, which ARP does not set.
function site.range(size, sources, destinations)
	local a, port = site.addresses, site.sender
	local function fixed(set, value)
		set(port, "start", value)
		set(port, "min", value)
		set(port, "max", value)
	end
	local function counted(set, first, count)
		set(port, "start", first)
		set(port, "min", first)
		set(port, "max", first + count - 1)
		set(port, "inc", count > 1 and 1 or 0)
	end
	fixed(pktgen.range.dst_mac, site.gateway_mac)
	pktgen.range.dst_mac(port, "inc", "00:00:00:00:00:00")
	fixed(pktgen.range.src_ip, a.client)
	pktgen.range.src_ip(port, "inc", "0.0.0.0")
	fixed(pktgen.range.dst_ip, a.server)
	pktgen.range.dst_ip(port, "inc", "0.0.0.0")
	fixed(pktgen.range.pkt_size, size)
	pktgen.range.pkt_size(port, "inc", 0)
	counted(pktgen.range.src_port, FIRST_SOURCE, sources)
	counted(pktgen.range.dst_port, FIRST_DESTINATION, destinations)
	pktgen.range.ip_proto(port, "udp")
	pktgen.set_range(port, "on")
end

-- One of the numbers of flows that keep sessions established: 1,000 to 10,000,000.
function site.flows(size, count)
	local destinations = DESTINATION_PORTS[count]
	if destinations == nil then
		error("flows: 1000, 100000, 1000000 or 10000000, not " .. tostring(count))
	end
	site.range(size, SOURCE_PORTS, destinations)
end

-- A mix of the internet's sizes, 7:4:1 of 64, 570 and 1,518 bytes, as a sequence of
-- twelve packets. Random bits make 4,096 flows of it (the UDP checksum is wrong then, and a gateway
-- passes it on as it is).
function site.imix()
	local sizes = { 64, 570, 64, 64, 570, 64, 1518, 64, 570, 64, 64, 570 }
	local a, port = site.addresses, site.sender
	for index, size in ipairs(sizes) do
		pktgen.seqTable(index - 1, port, {
			eth_dst_addr = site.gateway_mac,
			eth_src_addr = site.mac,
			ip_dst_addr = a.server,
			ip_src_addr = a.client .. "/16",
			sport = 0x4000,
			dport = FIRST_DESTINATION + index,
			ethType = "ipv4",
			ipProto = "udp",
			vlanid = 1,
			pktSize = size,
			cos = 0,
			tos = 0,
			tcp_flags = "ack",
			gtpu_teid = 0,
		})
	end
	pktgen.set(port, "seq_cnt", #sizes)
	-- Twelve bits of the source port, which is at byte 34 of the frame.
	pktgen.rnd(port, 0, 34, "....XXXX_XXXXXXXX_........_........")
end

-- What a port counted since it was cleared. Pktgen before 26 takes a second argument and has no
-- table `curr`.
function site.counters(port)
	local known, stats = pcall(pktgen.portStats, tostring(port))
	if not known then
		stats = pktgen.portStats(tostring(port), "port")
	end
	local entry = stats[port]
	return entry.curr or entry
end

-- Megabits per second of the sender's link.
function site.speed()
	local state = pktgen.linkState(tostring(site.sender))[site.sender]
	local speed = tonumber(state:match("UP%-(%d+)"))
	if speed == nil then
		error("the sender's link is down: " .. state)
	end
	return speed
end

-- Frames per second that the link carries of that size.
function site.line_rate(size) return site.speed() * 1e6 / ((size + 20) * 8) end

-- Sends at `percent` of the link for `seconds`, and returns what was sent, received and lost.
function site.trial(percent, seconds)
	pktgen.set(site.sender, "rate", percent)
	pktgen.clr()
	pktgen.start(site.sender)
	pktgen.delay(seconds * 1000)
	pktgen.stop(site.sender)
	pktgen.delay(site.grace)
	return site.result(seconds)
end

-- The counters as a result.
function site.result(seconds)
	local sent = site.counters(site.sender).opackets
	local received = site.counters(site.receiver).ipackets
	local lost = math.max(sent - received, 0)
	return {
		sent = sent,
		received = received,
		lost = lost,
		loss = sent > 0 and lost / sent or 1,
		mpps = received / seconds / 1e6,
	}
end

-- The greatest load up to `ceiling` that passes, to within `step`; nil when none does.
function site.search(ceiling, step, passes)
	local passed, failed = nil, nil
	local load = ceiling
	while true do
		if passes(load) then
			passed = load
		else
			failed = load
		end
		if failed == nil or failed - (passed or 0) <= step then
			return passed
		end
		load = ((passed or 0) + failed) / 2
	end
end

return site
