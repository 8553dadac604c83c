-- A failover seen by the traffic: a steady stream through the primary while you break it. Blocked time
-- is packets lost divided by packets sent per second (RFC 6201 section 5, CSIT). Also tells when
-- packets stopped and when they came again, as far as samples every 10 ms show it.

require "Pktgen"
local site = require "site"

-- 1,000, 100,000, 1,000,000 or 10,000,000 sessions that the successor has to know.
local FLOWS = 100000
-- Of the link; below what the gateway forwards without loss, which the first seconds prove.
local PERCENT = 1
local BEFORE, WHOLE = 5, 30
local SAMPLE = 10 -- milliseconds

site.prepare()
site.flows(64, FLOWS)
local before = site.trial(PERCENT, BEFORE)
if before.lost > 0 then
	error(string.format("%d packets are lost before anything breaks: lower PERCENT", before.lost))
end

pktgen.clr()
pktgen.start(site.sender)
printf("break the primary now: %d s are left\n", WHOLE)
local last, stopped, gap = 0, nil, 0
for sample = 1, WHOLE * 1000 // SAMPLE do
	pktgen.delay(SAMPLE)
	local received = site.counters(site.receiver).ipackets
	if received == last and received > 0 then
		stopped = stopped or sample
	elseif stopped ~= nil then
		gap = math.max(gap, sample - stopped)
		printf("nothing arrived between %d and %d ms\n", stopped * SAMPLE, sample * SAMPLE)
		stopped = nil
	end
	last = received
end
pktgen.stop(site.sender)
pktgen.delay(site.grace)
local result = site.result(WHOLE)
local rate = result.sent / WHOLE
printf("%d of %d packets lost at %.0f a second: blocked for %.1f ms; longest silence %d ms\n",
	result.lost, result.sent, rate, result.lost / rate * 1000, gap * SAMPLE)
pktgen.set_range(site.sender, "off")
