-- New NAT sessions per second: every packet is the first of its flow, so packets per second without
-- loss are sessions per second. The gateway must forget quickly, or its table is what is measured:
-- `udp_unreplied = "1s"` and a capacity well above the rate (README.md).

require "Pktgen"
local site = require "site"

-- 20,011 times 10,007 pairs of ports, both prime: 200 million flows until one comes again.
local SOURCES, DESTINATIONS = 20011, 10007
local SECONDS = 10
-- Share of sessions that may fail.
local LOSS = 0.0001

site.prepare()
site.range(64, SOURCES, DESTINATIONS)
local best
local rate = site.search(100, 0.25, function(percent)
	local result = site.trial(percent, SECONDS)
	printf("%.2f %% of the link: %.3f M sessions a second, %d of %d lost\n",
		percent, result.mpps, result.lost, result.sent)
	if result.loss <= LOSS then
		best = result
	end
	-- What this trial made is forgotten before the next.
	pktgen.delay(3000)
	return result.loss <= LOSS
end)
if rate == nil then
	printf("sessions are lost at every rate\n")
else
	printf("%.3f million new sessions a second\n", best.mpps)
end
pktgen.set_range(site.sender, "off")
