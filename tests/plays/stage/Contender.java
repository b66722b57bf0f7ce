// A router of the JVM, as Curator 5.4 makes it: registered, looking for others, and a candidate.
import java.util.*;
import org.apache.curator.framework.*;
import org.apache.curator.framework.recipes.leader.*;
import org.apache.curator.retry.*;
import org.apache.curator.x.discovery.*;
import org.apache.curator.x.discovery.details.*;

public class Contender {
    static synchronized void say(String what) {
        System.out.println(what);
        System.out.flush();
    }

    public static void main(String[] arguments) throws Exception {
        var client = CuratorFrameworkFactory.newClient(
            arguments[0], 5000, 5000, new BoundedExponentialBackoffRetry(100, 120000, 10));
        client.start();
        var payload = new HashMap<String, Object>();
        payload.put("router-fqdn", "jvm.example.com");
        payload.put("router-ssl-port", 9443);
        ServiceInstance<HashMap> own = ServiceInstance.<HashMap>builder()
            .id("jvm-1").name(arguments[1]).address("127.0.0.1").port(9091).payload(payload)
            .uriSpec(new UriSpec("{scheme}://{address}:{port}/{endpoint}")).build();
        var discovery = ServiceDiscoveryBuilder.builder(HashMap.class).client(client)
            .basePath("/waiter/discovery-v2-v2")
            .serializer(new JsonInstanceSerializer<>(HashMap.class)).thisInstance(own).build();
        discovery.start();
        var cache = discovery.serviceCacheBuilder().name(arguments[1]).build();
        cache.start();
        var latch = new LeaderLatch(client, "/waiter/leader-latch", "jvm-1");
        latch.addListener(new LeaderLatchListener() {
            public void isLeader() { say("leads " + System.currentTimeMillis()); }
            public void notLeader() { say("follows " + System.currentTimeMillis()); }
        });
        latch.start();
        String last = "";
        while (true) {
            var seen = new TreeSet<String>();
            for (var it : cache.getInstances())
                seen.add(it.getId() + "=" + it.getAddress() + ":" + it.getPort());
            if (!seen.toString().equals(last)) say("cache " + (last = seen.toString()));
            Thread.sleep(20);
        }
    }
}
