-- Forgets the consumers of processes that ended long ago and left nothing behind.
-- ARGV: prefix, queues.
for i = 2, #ARGV do
  for _, kind in ipairs({'direct:', 'ready:'}) do
    local stream = P .. kind .. ARGV[i]
    local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, GROUP)
    if not consumers.err then
      for _, consumer in ipairs(consumers) do
        local about = {}
        for k = 1, #consumer, 2 do about[consumer[k]] = consumer[k + 1] end
        if about.pending == 0 and about.idle > HORIZON then
          redis.call('XGROUP', 'DELCONSUMER', stream, GROUP, about.name)
        end
      end
    end
  end
end
return {'ok'}
