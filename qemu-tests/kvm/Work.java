// Thread pools, threads of its own, a shared map and the garbage collector.
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Work {
    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Long>> parts = new ArrayList<>();
        for (int i = 0; i < 32; i++) {
            final int part = i;
            parts.add(pool.submit(() -> {
                long sum = 0;
                for (int k = 0; k < 200000; k++) {
                    sum += (k ^ part) % 7;
                }
                Thread.sleep(2);
                return sum;
            }));
        }
        long total = 0;
        for (Future<Long> part : parts) {
            total += part.get();
        }
        pool.shutdown();
        System.out.println("sum " + total);
        Map<String, Integer> counts = new ConcurrentHashMap<>();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < 16; i++) {
            Thread thread = new Thread(() -> {
                for (int k = 0; k < 1000; k++) {
                    counts.merge("all", 1, Integer::sum);
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        System.gc();
        System.out.println(counts);
        System.exit(5);
    }
}
