use std::sync::{Arc, atomic::AtomicBool}; use std::time::Instant;
fn cpu()->f64{ let s=std::fs::read_to_string("/proc/self/stat").unwrap(); let f:Vec<&str>=s.rsplit(") ").next().unwrap().split(" ").collect(); (f[11].parse::<f64>().unwrap()+f[12].parse::<f64>().unwrap())/100.0 }
fn main(){ let mut c0=cpu();
  let a:Vec<String>=std::env::args().collect();
  let cols=Arc::new(drcorl_data::read_dsrl(std::path::Path::new(&a[1])).unwrap());
  let d=drcorl_core::describe();
  let preset=&d["algorithms"][&a[2]]["presets"][&a[3]];
  let over: serde_json::Value=serde_json::from_str(a.get(4).map(|s|s.as_str()).unwrap_or("{}")).unwrap();
  let mut run=preset["run"].clone(); let mut config=preset["config"].clone();
  let rk=d["run"]["schema"]["properties"].as_object().unwrap();
  for (k,v) in over.as_object().unwrap(){ if rk.contains_key(k){run[k]=v.clone();} else {config[k]=v.clone();} }
  let json=serde_json::json!({"algorithm":a[2],"run":run,"config":config}).to_string();
  let mut t=drcorl_core::Trainer::new(cols,&json).unwrap();
  let cancel=AtomicBool::new(false); let mut s=Instant::now(); let mut ph=String::new(); let mut p0=Instant::now(); let mut last=0u64;
  let mut rep=String::new();
  loop { let r=t.run(50,&cancel).unwrap();
    let name=r["phase"].as_str().unwrap().to_string();
    if name!=ph { if !ph.is_empty(){ println!("== {ph}: {:.1}s wall {:.1}s cpu", p0.elapsed().as_secs_f64(), cpu()-c0); c0=cpu(); } ph=name; p0=Instant::now(); last=0;}
    rep=r["metrics"].to_string();
    let k=r["phase_step"].as_u64().unwrap(); let n=r["phase_steps"].as_u64().unwrap();
    if k-last>=n/5 { last=k; println!("{ph} {k}/{n} {rep}"); }
    if r["done"]==true {break;}
  }
  println!("== {ph}: {:.1}s total", p0.elapsed().as_secs_f64()); let _=s; s=Instant::now(); let _=s; let _=rep;
  println!("{}",serde_json::to_string_pretty(&t.certificate().unwrap()).unwrap());
  if let Some(dir)=a.get(5){ std::fs::create_dir_all(dir).unwrap(); println!("{:?}",t.write_policies(std::path::Path::new(dir)).unwrap()); t.save(&std::path::Path::new(dir).join("checkpoint.safetensors")).unwrap(); }
}
